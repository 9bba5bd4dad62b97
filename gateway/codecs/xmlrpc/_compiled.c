/* The plain documents of XML-RPC, from bytes to values and back.

       read_call(body, max_depth)                      -> (method, arguments)
       read_answer(body, max_depth)                    -> [value]
       write_value(value, max_depth, room, nil, i8)    -> bytes

   Each returns None for whatever is unusual or wrong, and then the Python code reads or writes it, and reports what is
   wrong with it. What is not None is the same as there; tests/codecs/test_usual.py holds both together.

   Nothing here runs code of values, and the GIL is held all the time, so borrowed references stay valid. Containers are
   kept on a stack of our own: no document and no value makes C functions recur. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <datetime.h>
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#define LENGTH(literal) ((Py_ssize_t)sizeof(literal) - 1)
#if defined(__GNUC__)
#define ALWAYS_INLINE inline __attribute__((always_inline)) /* so that lengths of literals are known where they are compared */
#else
#define ALWAYS_INLINE inline
#endif
#define EXACT_DOUBLES (FLT_EVAL_METHOD == 0) /* no arithmetic in registers that are wider than a double */

enum { WIDE = 1, REFERENCE = 2, MARKUP = 4, REFUSED = 8 }; /* what a byte of a text may be; 0 is a plain character */
enum { FRAMES = 24, NAMES = 64, SMALL = 1024, LARGE = 512, FARTHEST = 64, SLACK = 8, SHORT_NUMBER = 40, LONG_NUMBER = 400 };

static unsigned char kinds[256];
static signed char digits_of_base64[256];
static const char base64_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
static const uint64_t whole_powers[] = {
    1ull, 10ull, 100ull, 1000ull, 10000ull, 100000ull, 1000000ull, 10000000ull, 100000000ull, 1000000000ull,
    10000000000ull, 100000000000ull, 1000000000000ull, 10000000000000ull, 100000000000000ull, 1000000000000000ull,
    10000000000000000ull, 100000000000000000ull, 1000000000000000000ull};

static void
fill_tables(void)
{
    for (int byte = 0; byte < 256; byte++) {
        kinds[byte] = byte >= 0x80 ? WIDE : byte < 0x20 && byte != '\t' && byte != '\n' ? REFUSED : 0;
        digits_of_base64[byte] = -1;
    }
    kinds['<'] = MARKUP;
    kinds['>'] = REFUSED;
    kinds['&'] = REFERENCE;
    for (int digit = 0; digit < 64; digit++) {
        digits_of_base64[(unsigned char)base64_digits[digit]] = (signed char)digit;
    }
}

/* ------------------------------------------------------------------------------------------------------- reading */

/* A container that is open, and the name of the member that is being read. Both references are owned. */
typedef struct {
    PyObject *holder;
    PyObject *name;
} Open;

/* A name that was read before. Programs send the same ones again and again. */
typedef struct {
    const unsigned char *text;
    Py_ssize_t length;
    PyObject *name;
} Known;

typedef struct {
    const unsigned char *at;
    const unsigned char *end;
    Open *open;
    Py_ssize_t depth; /* the innermost open container; 0 stands for the params */
    Py_ssize_t places;
    Open first[FRAMES];
    Known known[NAMES];
} Reader;

#define TAKES(reader, literal) takes(reader, literal, LENGTH(literal))

static ALWAYS_INLINE int
takes(Reader *reader, const char *literal, Py_ssize_t length)
{
    if (reader->end - reader->at < length || memcmp(reader->at, literal, (size_t)length) != 0) {
        return 0;
    }
    reader->at += length;
    return 1;
}

static inline void
skip(Reader *reader)
{
    while (reader->at < reader->end &&
           (*reader->at == ' ' || *reader->at == '\n' || *reader->at == '\t' || *reader->at == '\r')) {
        reader->at++;
    }
}

static inline int
is_digit(unsigned char byte)
{
    return byte >= '0' && byte <= '9';
}

/* Leave an exception that only says that a value is wrong. Return NULL in any case. */
static PyObject *
unusual(PyObject *expected)
{
    if (PyErr_Occurred() && PyErr_ExceptionMatches(expected)) {
        PyErr_Clear();
    }
    return NULL;
}

/* Return what is in a text of UTF-8. U+FFFE and U+FFFF are the only characters of it that XML does not have. */
static PyObject *
decoded(const unsigned char *text, Py_ssize_t length)
{
    const unsigned char *end = text + length;
    for (const unsigned char *at = text; (at = memchr(at, 0xEF, (size_t)(end - at))) != NULL; at++) {
        if (end - at >= 3 && at[1] == 0xBF && at[2] >= 0xBE) {
            return NULL;
        }
    }
    PyObject *string = PyUnicode_DecodeUTF8((const char *)text, length, "strict");
    return string != NULL ? string : unusual(PyExc_UnicodeDecodeError);
}

static PyObject *
ascii(const unsigned char *text, Py_ssize_t length)
{
    PyObject *string = PyUnicode_New(length, 127);
    if (string != NULL && length > 0) {
        memcpy(PyUnicode_1BYTE_DATA(string), text, (size_t)length);
    }
    return string;
}

/* Return a text in which references stand for the five characters that XML has names for. */
static PyObject *
dereferenced(const unsigned char *text, Py_ssize_t length)
{
    static const struct {
        const char *reference;
        Py_ssize_t length;
        unsigned char character;
    } table[] = {{"&lt;", 4, '<'}, {"&gt;", 4, '>'}, {"&amp;", 5, '&'}, {"&quot;", 6, '"'}, {"&apos;", 6, '\''}};
    unsigned char *copy = PyMem_Malloc((size_t)length);
    if (copy == NULL) {
        return PyErr_NoMemory();
    }
    unsigned char *out = copy;
    const unsigned char *end = text + length;
    while (text < end) {
        if (*text != '&') {
            *out++ = *text++;
            continue;
        }
        size_t row = 0, rows = sizeof table / sizeof *table;
        while (row < rows && (end - text < table[row].length ||
                              memcmp(text, table[row].reference, (size_t)table[row].length) != 0)) {
            row++;
        }
        if (row == rows) {
            PyMem_Free(copy);
            return NULL;
        }
        *out++ = table[row].character;
        text += table[row].length;
    }
    PyObject *string = decoded(copy, out - copy);
    PyMem_Free(copy);
    return string;
}

/* Go to the end of a text, which is at the next tag. Return the kinds of its characters; REFUSED where it has no end. */
static inline int
scan(Reader *reader)
{
    const unsigned char *at = reader->at, *end = reader->end;
    int seen = 0, kind = 0;
    while (at < end && ((kind = kinds[*at]) & (MARKUP | REFUSED)) == 0) {
        seen |= kind;
        at++;
    }
    reader->at = at;
    return at == end || kind != MARKUP ? REFUSED : seen;
}

static inline PyObject *
string_of(const unsigned char *text, Py_ssize_t length, int seen)
{
    return seen == 0 ? ascii(text, length) : seen & REFERENCE ? dereferenced(text, length) : decoded(text, length);
}

static PyObject *
read_string(Reader *reader)
{
    const unsigned char *text = reader->at;
    int seen = scan(reader);
    return seen & REFUSED ? NULL : string_of(text, reader->at - text, seen);
}

static PyObject *
read_name(Reader *reader)
{
    const unsigned char *text = reader->at;
    int seen = scan(reader);
    Py_ssize_t length = reader->at - text;
    if (seen & REFUSED) {
        return NULL;
    }
    if (seen != 0 || length == 0) {
        return string_of(text, length, seen);
    }
    size_t place = ((size_t)length * 7 + (size_t)text[0] * 31 + (size_t)text[length - 1] * 5 +
                    (size_t)text[length / 2]) % NAMES;
    Known *known = &reader->known[place];
    if (known->name == NULL || known->length != length || memcmp(known->text, text, (size_t)length) != 0) {
        PyObject *name = ascii(text, length);
        if (name == NULL) {
            return NULL;
        }
        Py_XSETREF(known->name, name);
        known->text = text;
        known->length = length;
    }
    return Py_NewRef(known->name);
}

static PyObject *
read_int(Reader *reader)
{
    int negative = TAKES(reader, "-");
    uint64_t value = 0;
    const unsigned char *first = reader->at;
    while (reader->at < reader->end && is_digit(*reader->at) && reader->at - first < 19) {
        value = value * 10 + (uint64_t)(*reader->at++ - '0');
    }
    if (reader->at == first || value > (uint64_t)INT64_MAX + (uint64_t)negative) {
        return NULL;
    }
    return PyLong_FromLongLong(negative && value > 0 ? -(int64_t)(value - 1) - 1 : (int64_t)value);
}

static PyObject *
read_double(Reader *reader)
{
    const unsigned char *start = reader->at, *end = reader->end;
    const unsigned char *at = start + (start < end && *start == '-');
    uint64_t digits = 0; /* wraps around where there are too many, and is not used then */
    Py_ssize_t count = 0, after_point = 0;
    int has_exponent = 0;
    for (; at < end && is_digit(*at); at++, count++) {
        digits = digits * 10 + (uint64_t)(*at - '0');
    }
    if (count == 0) {
        return NULL;
    }
    if (at < end && *at == '.') {
        for (at++; at < end && is_digit(*at); at++, after_point++) {
            digits = digits * 10 + (uint64_t)(*at - '0');
        }
        if (after_point == 0) {
            return NULL;
        }
    }
    if (at < end && (*at == 'e' || *at == 'E')) {
        has_exponent = 1;
        at++;
        at += at < end && (*at == '-' || *at == '+');
        while (at < end && is_digit(*at)) {
            at++;
        }
    }
    reader->at = at;
    if (EXACT_DOUBLES && !has_exponent && count + after_point <= 15) { /* both are exact, and so one division rounds */
        double value = (double)digits / powers[after_point];
        return PyFloat_FromDouble(*start == '-' ? -value : value);
    }
    char copy[SHORT_NUMBER + 1];
    if (at - start > SHORT_NUMBER) {
        return NULL;
    }
    memcpy(copy, start, (size_t)(at - start));
    copy[at - start] = '\0';
    double value = PyOS_string_to_double(copy, NULL, NULL);
    if (PyErr_Occurred()) {
        return unusual(PyExc_ValueError);
    }
    return isfinite(value) ? PyFloat_FromDouble(value) : NULL;
}

static PyObject *
read_boolean(Reader *reader)
{
    if (TAKES(reader, "1")) {
        Py_RETURN_TRUE;
    }
    if (TAKES(reader, "0")) {
        Py_RETURN_FALSE;
    }
    return NULL;
}

static PyObject *
read_base64(Reader *reader)
{
    const unsigned char *text = reader->at;
    if (scan(reader) != 0) {
        return NULL;
    }
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (reader->at - text) / 4 * 3 + 3);
    if (bytes == NULL) {
        return NULL;
    }
    unsigned char *out = (unsigned char *)PyBytes_AS_STRING(bytes);
    Py_ssize_t size = 0;
    uint32_t bits = 0;
    int count = 0, padding = 0; /* of the present four digits */
    for (; text < reader->at; text++) {
        int digit = digits_of_base64[*text];
        if (*text == ' ' || *text == '\n' || *text == '\t') {
            continue;
        }
        if (*text == '=' && count >= 2 && count + padding < 4) {
            padding++;
        }
        else if (digit < 0 || padding > 0) {
            Py_DECREF(bytes);
            return NULL;
        }
        else {
            bits = bits << 6 | (uint32_t)digit;
            count++;
        }
        if (count == 4) {
            out[size++] = (unsigned char)(bits >> 16);
            out[size++] = (unsigned char)(bits >> 8);
            out[size++] = (unsigned char)bits;
            bits = 0;
            count = 0;
        }
    }
    uint32_t surplus = count == 3 ? bits & 3 : bits & 15;
    if (count + padding != (count == 0 ? 0 : 4) || surplus != 0) {
        Py_DECREF(bytes);
        return NULL;
    }
    if (count == 3) {
        out[size++] = (unsigned char)(bits >> 10);
        out[size++] = (unsigned char)(bits >> 2);
    }
    else if (count == 2) {
        out[size++] = (unsigned char)(bits >> 4);
    }
    _PyBytes_Resize(&bytes, size); /* sets it to NULL where there is no memory */
    return bytes;
}

/* Return a number of so many digits; -1 if there are other characters. */
static int
read_digits(Reader *reader, int count)
{
    int value = 0;
    if (reader->end - reader->at < count) {
        return -1;
    }
    for (; count > 0; count--, reader->at++) {
        if (!is_digit(*reader->at)) {
            return -1;
        }
        value = value * 10 + (*reader->at - '0');
    }
    return value;
}

static PyObject *
read_datetime(Reader *reader)
{
    int microsecond = 0;
    int year = read_digits(reader, 4);
    int has_dashes = TAKES(reader, "-");
    int month = read_digits(reader, 2);
    if (has_dashes && !TAKES(reader, "-")) {
        return NULL;
    }
    int day = read_digits(reader, 2);
    int hour = TAKES(reader, "T") ? read_digits(reader, 2) : -1;
    int minute = TAKES(reader, ":") ? read_digits(reader, 2) : -1;
    int second = TAKES(reader, ":") ? read_digits(reader, 2) : -1;
    if (year < 0 || month < 0 || day < 0 || hour < 0 || minute < 0 || second < 0) {
        return NULL;
    }
    if (TAKES(reader, ".")) {
        int count = 0;
        for (; count < 9 && reader->at < reader->end && is_digit(*reader->at); count++, reader->at++) {
            microsecond = count < 6 ? microsecond * 10 + (*reader->at - '0') : microsecond;
        }
        if (count == 0) {
            return NULL;
        }
        for (; count < 6; count++) {
            microsecond *= 10;
        }
    }
    PyObject *zone = TAKES(reader, "Z") ? PyDateTime_TimeZone_UTC : Py_None;
    PyObject *value = PyDateTimeAPI->DateTime_FromDateAndTime(year, month, day, hour, minute, second, microsecond, zone,
                                                              PyDateTimeAPI->DateTimeType);
    return value != NULL ? value : unusual(PyExc_ValueError);
}

#define SCALAR(reader, tag, read) (TAKES(reader, tag ">") ? closed(reader, read(reader), "</" tag ">", LENGTH(tag) + 3) : NULL)

/* Return a scalar behind which its end tag and that of its value are. */
static ALWAYS_INLINE PyObject *
closed(Reader *reader, PyObject *value, const char *tag, Py_ssize_t length)
{
    if (value != NULL && takes(reader, tag, length)) {
        skip(reader);
        if (TAKES(reader, "</value>")) {
            return value;
        }
    }
    Py_XDECREF(value);
    return NULL;
}

/* Open a container: what is read from now on belongs to it. */
static int
open_container(Reader *reader, PyObject *holder, Py_ssize_t max_depth)
{
    if (holder == NULL) {
        return 0;
    }
    if (reader->depth + 1 >= max_depth) {
        Py_DECREF(holder);
        return 0;
    }
    if (reader->depth + 1 == reader->places) {
        size_t size = (size_t)reader->places * sizeof(Open);
        Open *larger = PyMem_Malloc(2 * size);
        if (larger == NULL) {
            Py_DECREF(holder);
            PyErr_NoMemory();
            return 0;
        }
        memcpy(larger, reader->open, size);
        if (reader->open != reader->first) {
            PyMem_Free(reader->open);
        }
        reader->open = larger;
        reader->places *= 2;
    }
    reader->open[++reader->depth] = (Open){.holder = holder, .name = NULL};
    return 1;
}

/* Put a value, whose reference is taken over, into the innermost open container. */
static int
put_into(Open *open, PyObject *value)
{
    int failed;
    if (open->name == NULL) {
        failed = PyList_Append(open->holder, value) < 0;
    }
    else {
        Py_ssize_t before = PyDict_GET_SIZE(open->holder);
        failed = PyDict_SetItem(open->holder, open->name, value) < 0 || PyDict_GET_SIZE(open->holder) == before;
        Py_CLEAR(open->name);
    }
    Py_DECREF(value);
    return !failed;
}

/* Read what is inside of a value: return it, or NULL with ``opened`` set where it is a container. */
static PyObject *
read_inside(Reader *reader, Py_ssize_t max_depth, int *opened)
{
    const unsigned char *start = reader->at;
    skip(reader);
    if (reader->at == reader->end || *reader->at != '<' || TAKES(reader, "</value>")) { /* a text without a type */
        reader->at = start;
        PyObject *value = read_string(reader);
        if (value != NULL && !TAKES(reader, "</value>")) {
            Py_CLEAR(value);
        }
        return value;
    }
    reader->at++;
    switch (reader->at < reader->end ? *reader->at : 0) {
    case 'i':
        return TAKES(reader, "int>")  ? closed(reader, read_int(reader), "</int>", 6)
               : TAKES(reader, "i4>") ? closed(reader, read_int(reader), "</i4>", 5)
                                      : SCALAR(reader, "i8", read_int);
    case 'd':
        return TAKES(reader, "double>") ? closed(reader, read_double(reader), "</double>", 9)
                                        : SCALAR(reader, "dateTime.iso8601", read_datetime);
    case 'b':
        return TAKES(reader, "boolean>") ? closed(reader, read_boolean(reader), "</boolean>", 10)
                                         : SCALAR(reader, "base64", read_base64);
    case 'n':
        return TAKES(reader, "nil") ? closed(reader, Py_NewRef(Py_None), "/>", 2) : NULL;
    case 'a':
        if (TAKES(reader, "array>")) {
            skip(reader);
            *opened = TAKES(reader, "<data>") && open_container(reader, PyList_New(0), max_depth);
        }
        return NULL;
    case 's':
        if (TAKES(reader, "string>")) {
            return closed(reader, read_string(reader), "</string>", 9);
        }
        *opened = TAKES(reader, "struct>") && open_container(reader, PyDict_New(), max_depth);
        return NULL;
    default:
        return NULL;
    }
}

/* Close the innermost container, whose own end tag was read, and return it. */
static PyObject *
close_container(Reader *reader, int is_array)
{
    skip(reader);
    if (is_array) {
        if (!TAKES(reader, "</array>")) {
            return NULL;
        }
        skip(reader);
    }
    if (!TAKES(reader, "</value>")) {
        return NULL;
    }
    PyObject *value = reader->open[reader->depth].holder;
    reader->open[reader->depth--].holder = NULL;
    return value;
}

/* Read params up to their end tag into the list that is the outermost container. */
static int
read_params(Reader *reader, Py_ssize_t max_depth)
{
    for (;;) {
        Open *open = &reader->open[reader->depth];
        int is_array = PyList_CheckExact(open->holder), opened = 0;
        PyObject *value;
        skip(reader);
        if (reader->depth == 0) {
            if (TAKES(reader, "</params>")) {
                return 1;
            }
            if (!TAKES(reader, "<param>")) {
                return 0;
            }
            skip(reader);
        }
        if (reader->depth > 0 && (is_array ? TAKES(reader, "</data>") : TAKES(reader, "</struct>"))) {
            value = close_container(reader, is_array);
        }
        else {
            if (!is_array) {
                if (!TAKES(reader, "<member>")) {
                    return 0;
                }
                skip(reader);
                if (!TAKES(reader, "<name>") || (open->name = read_name(reader)) == NULL || !TAKES(reader, "</name>")) {
                    return 0;
                }
                skip(reader);
            }
            value = TAKES(reader, "<value>") ? read_inside(reader, max_depth, &opened) : NULL;
            if (opened) {
                continue;
            }
        }
        if (value == NULL || !put_into(open = &reader->open[reader->depth], value)) {
            return 0;
        }
        if (reader->depth == 0) {
            skip(reader);
            if (!TAKES(reader, "</param>")) {
                return 0;
            }
        }
        else if (PyDict_CheckExact(open->holder)) {
            skip(reader);
            if (!TAKES(reader, "</member>")) {
                return 0;
            }
        }
    }
}

/* Go past an XML declaration, if there is one that says UTF-8 or nothing; what is not ASCII is checked as UTF-8. */
static int
read_declaration(Reader *reader)
{
    skip(reader);
    if (!TAKES(reader, "<?xml ")) {
        return 1;
    }
    if (!TAKES(reader, "version=\"1.0\"") && !TAKES(reader, "version='1.0'")) {
        return 0;
    }
    if (TAKES(reader, " encoding=")) {
        unsigned char quote = reader->at < reader->end ? *reader->at : 0;
        if ((quote != '"' && quote != '\'') || reader->end - reader->at < 7) {
            return 0;
        }
        const char *name = (const char *)reader->at + 1;
        reader->at += PyOS_strnicmp(name, "utf-8", 5) == 0 ? 6 : PyOS_strnicmp(name, "utf8", 4) == 0 ? 5 : 0;
        if (*reader->at != quote || (const char *)reader->at < name) {
            return 0;
        }
        reader->at++;
    }
    (void)TAKES(reader, " ");
    if (!TAKES(reader, "?>")) {
        return 0;
    }
    skip(reader);
    return 1;
}

static PyObject *
read_method_name(Reader *reader)
{
    if (!TAKES(reader, "<methodName>")) {
        return NULL;
    }
    skip(reader);
    const unsigned char *name = reader->at;
    while (reader->at < reader->end &&
           (Py_ISALNUM(*reader->at) || (*reader->at != '\0' && strchr("_.:/-", *reader->at) != NULL))) {
        reader->at++;
    }
    Py_ssize_t length = reader->at - name;
    skip(reader);
    return length > 0 && TAKES(reader, "</methodName>") ? ascii(name, length) : NULL;
}

static int
ends(Reader *reader, const char *tag, Py_ssize_t length)
{
    skip(reader);
    if (!takes(reader, tag, length)) {
        return 0;
    }
    skip(reader);
    return reader->at == reader->end;
}

/* Begin to read ``(body, max_depth)``: return 0 with an exception where these are wrong, or there is no memory. */
static int
begin(Reader *reader, PyObject *const *arguments, Py_ssize_t count, Py_ssize_t *max_depth)
{
    if (count != 2 || !PyBytes_Check(arguments[0])) {
        PyErr_SetString(PyExc_TypeError, "the arguments are bytes and an int");
        return 0;
    }
    *max_depth = PyLong_AsSsize_t(arguments[1]);
    if (*max_depth == -1 && PyErr_Occurred()) {
        return 0;
    }
    reader->at = (const unsigned char *)PyBytes_AS_STRING(arguments[0]);
    reader->end = reader->at + PyBytes_GET_SIZE(arguments[0]);
    reader->open = reader->first;
    reader->depth = 0;
    reader->places = FRAMES;
    memset(reader->known, 0, sizeof reader->known);
    reader->first[0] = (Open){.holder = PyList_New(0), .name = NULL};
    return reader->first[0].holder != NULL;
}

/* Free what was not finished, and return the result: None where there is neither one nor an exception. */
static PyObject *
finish(Reader *reader, PyObject *result)
{
    for (Py_ssize_t place = 0; place <= reader->depth; place++) {
        Py_XDECREF(reader->open[place].holder);
        Py_XDECREF(reader->open[place].name);
    }
    if (reader->open != reader->first) {
        PyMem_Free(reader->open);
    }
    for (size_t place = 0; place < NAMES; place++) {
        Py_XDECREF(reader->known[place].name);
    }
    if (result == NULL && !PyErr_Occurred()) {
        Py_RETURN_NONE;
    }
    return result;
}

static PyObject *
read_call(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    Reader reader;
    Py_ssize_t max_depth;
    PyObject *name = NULL, *call = NULL;
    if (!begin(&reader, arguments, count, &max_depth)) {
        return NULL;
    }
    if (read_declaration(&reader) && TAKES(&reader, "<methodCall>")) {
        skip(&reader);
        name = read_method_name(&reader);
    }
    if (name != NULL) {
        skip(&reader);
        int is_read = TAKES(&reader, "<params>") ? read_params(&reader, max_depth) : (TAKES(&reader, "<params/>"), 1);
        if (is_read && ends(&reader, "</methodCall>", LENGTH("</methodCall>"))) {
            call = PyTuple_Pack(2, name, reader.open[0].holder);
        }
        Py_DECREF(name);
    }
    return finish(&reader, call);
}

static PyObject *
read_answer(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    Reader reader;
    Py_ssize_t max_depth;
    PyObject *values = NULL;
    if (!begin(&reader, arguments, count, &max_depth)) {
        return NULL;
    }
    if (read_declaration(&reader) && TAKES(&reader, "<methodResponse>")) {
        skip(&reader);
        if (TAKES(&reader, "<params>") && read_params(&reader, max_depth) &&
            ends(&reader, "</methodResponse>", LENGTH("</methodResponse>")) &&
            PyList_GET_SIZE(reader.open[0].holder) == 1) {
            values = Py_NewRef(reader.open[0].holder);
        }
    }
    return finish(&reader, values);
}

/* ------------------------------------------------------------------------------------------------------- writing */

/* A container that is being written: a borrowed reference, and the place that comes next in it. */
typedef struct {
    PyObject *holder;
    Py_ssize_t next;
} Begun;

/* The name of a member that was written before, by its borrowed reference, and where that is from its tag to its end. */
typedef struct {
    PyObject *name;
    size_t place;
    size_t length;
} Written;

typedef struct {
    char *at;
    char *end;
    char *start;
    PyObject *bytes; /* holds what is written as soon as ``small`` is too small for it */
    Py_ssize_t room;
    PyObject *nil;
    int i8;
    Begun *begun;
    Py_ssize_t depth;
    Py_ssize_t places;
    Begun first[FRAMES];
    Written written[NAMES];
    char small[SMALL];
} Writer;

/* Return how many bytes there may be in the end, judged by how much of the containers is done; 0 where that says little. */
static size_t
expected(const Writer *writer, size_t used)
{
    double done = 0; /* a share of the container that is looked at, from the innermost one outwards */
    for (Py_ssize_t place = writer->depth; place-- > 0;) {
        const Begun *begun = &writer->begun[place];
        Py_ssize_t size = PyList_CheckExact(begun->holder) ? PyList_GET_SIZE(begun->holder) : PyDict_GET_SIZE(begun->holder);
        Py_ssize_t before = begun->next > size ? size - 1 : begun->next - 1;
        done = size > 0 && before >= 0 ? ((double)before + done) / (double)size : 0;
    }
    return done > 1.0 / FARTHEST ? (size_t)((double)used / done * 1.0625) : 0;
}

/* Make room for so many bytes. Return 0 where there is too much, or with an exception where there is no memory. What is
   asked for is written, but for LARGE bytes at most. */
static int
grow(Writer *writer, size_t more)
{
    size_t used = (size_t)(writer->at - writer->start), size = 2 * used + more, end = expected(writer, used);
    if (writer->room < 0 || used + more > (size_t)writer->room + LARGE) {
        return 0;
    }
    if (end > size && end <= (size_t)writer->room) { /* each block that is grown again is one that is mapped again */
        size = end;
    }
    if (size > PY_SSIZE_T_MAX) {
        PyErr_NoMemory();
        return 0;
    }
    if (writer->bytes == NULL) {
        writer->bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
        if (writer->bytes != NULL) {
            memcpy(PyBytes_AS_STRING(writer->bytes), writer->start, used);
        }
    }
    else {
        _PyBytes_Resize(&writer->bytes, (Py_ssize_t)size);
    }
    if (writer->bytes == NULL) {
        return 0;
    }
    writer->start = PyBytes_AS_STRING(writer->bytes);
    writer->at = writer->start + used;
    writer->end = writer->start + size;
    return 1;
}

static inline int
has_room(Writer *writer, size_t more)
{
    return (size_t)(writer->end - writer->at) >= more || grow(writer, more);
}

#define PUT(writer, literal) put(writer, literal, LENGTH(literal))

/* Write bytes for which there is room. */
static inline void
put(Writer *writer, const char *text, Py_ssize_t length)
{
    memcpy(writer->at, text, (size_t)length);
    writer->at += length;
}

static inline void
put_utf8(Writer *writer, Py_UCS4 character)
{
    if (character < 0x80) {
        *writer->at++ = (char)character;
        return;
    }
    if (character < 0x800) {
        *writer->at++ = (char)(0xC0 | character >> 6);
    }
    else {
        if (character < 0x10000) {
            *writer->at++ = (char)(0xE0 | character >> 12);
        }
        else {
            *writer->at++ = (char)(0xF0 | character >> 18);
            *writer->at++ = (char)(0x80 | (character >> 12 & 0x3F));
        }
        *writer->at++ = (char)(0x80 | (character >> 6 & 0x3F));
    }
    *writer->at++ = (char)(0x80 | (character & 0x3F));
}

/* Write a text, escaped. Return 0 where XML cannot carry it. */
static int
write_text(Writer *writer, PyObject *text)
{
#if PY_VERSION_HEX < 0x030C0000
    if (PyUnicode_READY(text) < 0) {
        return 0;
    }
#endif
    Py_ssize_t length = PyUnicode_GET_LENGTH(text);
    if (!has_room(writer, (size_t)length)) { /* a character takes one byte at least */
        return 0;
    }
    const void *data = PyUnicode_DATA(text);
    int kind = PyUnicode_KIND(text);
    if (PyUnicode_IS_ASCII(text)) {
        const unsigned char *from = data;
        unsigned char *to = (unsigned char *)writer->at;
        int seen = 0;
        for (Py_ssize_t place = 0; place < length; place++) {
            seen |= kinds[from[place]];
            to[place] = from[place];
        }
        if (seen == 0) {
            writer->at += length;
            return 1;
        }
    }
    for (Py_ssize_t place = 0; place < length; place++) {
        Py_UCS4 character = PyUnicode_READ(kind, data, place);
        if (!has_room(writer, 8)) {
            return 0;
        }
        if (character == '&') {
            PUT(writer, "&amp;");
        }
        else if (character == '<') {
            PUT(writer, "&lt;");
        }
        else if (character == '>') {
            PUT(writer, "&gt;");
        }
        else if (character == '\r') {
            PUT(writer, "&#13;");
        }
        else if ((character < 0x20 && character != '\t' && character != '\n') ||
                 (character >= 0xD800 && character < 0xE000) || character == 0xFFFE || character == 0xFFFF) {
            return 0;
        }
        else {
            put_utf8(writer, character);
        }
    }
    return 1;
}

/* Write a number in at least so many digits, for which there is room. */
static void
put_digits(Writer *writer, uint64_t value, int least)
{
    char digits[20];
    int first = 20;
    do {
        digits[--first] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0 || 20 - first < least);
    put(writer, digits + first, 20 - first);
}

static int
write_int(Writer *writer, PyObject *value)
{
    int overflow;
    long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
    int is_short = number >= INT32_MIN && number <= INT32_MAX;
    if (overflow != 0 || (!is_short && !writer->i8) || !has_room(writer, 64)) {
        return 0;
    }
    put(writer, is_short ? "<value><int>" : "<value><i8>", is_short ? 12 : 11);
    if (number < 0) {
        PUT(writer, "-");
    }
    put_digits(writer, number < 0 ? 0 - (uint64_t)number : (uint64_t)number, 1);
    put(writer, is_short ? "</int></value>" : "</i8></value>", is_short ? 14 : 13);
    return 1;
}

/* Write digits that have so many behind the point, but no zeros at their end. */
static void
put_decimal(Writer *writer, uint64_t digits, int places)
{
    uint64_t fraction = digits % whole_powers[places];
    put_digits(writer, digits / whole_powers[places], 1);
    PUT(writer, ".");
    while (places > 1 && fraction % 10 == 0) {
        fraction /= 10;
        places--;
    }
    put_digits(writer, fraction, places > 0 ? places : 1);
}

/* Write a double in the digits that it has, if these are 15 at most: two doubles never have the same 15 digits, so the
   number in so many digits that is read as this double is the shortest one, too. */
static int
put_short_double(Writer *writer, double value)
{
    int places = 14;
    if (value == 0) {
        PUT(writer, "0.0");
        return 1;
    }
    if (!EXACT_DOUBLES || value < 1e-4 || value >= 1e15) {
        return 0;
    }
    if (value < 1e11) { /* most have few decimals */
        uint64_t thousandths = (uint64_t)(value * 1e3 + 0.5);
        if ((double)thousandths / 1e3 == value) {
            put_decimal(writer, thousandths, 3);
            return 1;
        }
    }
    for (double limit = 10; value >= limit; limit *= 10) {
        places--;
    }
    for (double limit = 1; value < limit; limit /= 10) {
        places++;
    }
    uint64_t digits = (uint64_t)(value * powers[places] + 0.5);
    if ((double)digits / powers[places] != value) {
        return 0;
    }
    put_decimal(writer, digits, places);
    return 1;
}

/* Write a number like 1.5e-07 without its exponent, as the specification has none. */
static void
put_without_exponent(Writer *writer, const char *number, const char *mark)
{
    long point = 1 + strtol(mark + 1, NULL, 10); /* how many digits are before the point */
    if (*number == '-') {
        *writer->at++ = *number++;
    }
    if (point <= 0) {
        PUT(writer, "0.");
        for (; point < 0; point++) {
            PUT(writer, "0");
        }
        point = LONG_NUMBER;
    }
    for (; number < mark; number++) {
        if (*number == '.') {
            continue;
        }
        if (point-- == 0) {
            PUT(writer, ".");
        }
        *writer->at++ = *number;
    }
    for (; point > 0 && point < LONG_NUMBER - 30; point--) {
        PUT(writer, "0");
    }
}

static int
write_double(Writer *writer, double value)
{
    if (!isfinite(value) || !has_room(writer, LONG_NUMBER + 64)) {
        return 0;
    }
    PUT(writer, "<value><double>");
    char *before = writer->at;
    if (signbit(value)) {
        PUT(writer, "-");
    }
    if (put_short_double(writer, fabs(value))) {
        PUT(writer, "</double></value>");
        return 1;
    }
    writer->at = before;
    char *number = PyOS_double_to_string(value, 'r', 0, Py_DTSF_ADD_DOT_0, NULL);
    if (number == NULL) {
        return 0;
    }
    const char *mark = strchr(number, 'e');
    if (mark == NULL) {
        put(writer, number, (Py_ssize_t)strlen(number));
    }
    else {
        put_without_exponent(writer, number, mark);
    }
    PyMem_Free(number);
    PUT(writer, "</double></value>");
    return 1;
}

static int
write_bytes(Writer *writer, PyObject *value)
{
    const unsigned char *from = (const unsigned char *)PyBytes_AS_STRING(value);
    Py_ssize_t left = PyBytes_GET_SIZE(value);
    if (!has_room(writer, ((size_t)left + 2) / 3 * 4 + 64)) {
        return 0;
    }
    PUT(writer, "<value><base64>");
    for (; left > 0; left -= 3, from += 3) {
        uint32_t bits = (uint32_t)from[0] << 16 | (left > 1 ? (uint32_t)from[1] << 8 : 0) | (left > 2 ? from[2] : 0);
        *writer->at++ = base64_digits[bits >> 18];
        *writer->at++ = base64_digits[bits >> 12 & 63];
        *writer->at++ = left > 1 ? base64_digits[bits >> 6 & 63] : '=';
        *writer->at++ = left > 2 ? base64_digits[bits & 63] : '=';
    }
    PUT(writer, "</base64></value>");
    return 1;
}

static int
write_datetime(Writer *writer, PyObject *value)
{
    if (PyDateTime_DATE_GET_TZINFO(value) != Py_None || !has_room(writer, 128)) {
        return 0;
    }
    PUT(writer, "<value><dateTime.iso8601>");
    put_digits(writer, (uint64_t)PyDateTime_GET_YEAR(value), 4);
    put_digits(writer, (uint64_t)PyDateTime_GET_MONTH(value), 2);
    put_digits(writer, (uint64_t)PyDateTime_GET_DAY(value), 2);
    PUT(writer, "T");
    put_digits(writer, (uint64_t)PyDateTime_DATE_GET_HOUR(value), 2);
    PUT(writer, ":");
    put_digits(writer, (uint64_t)PyDateTime_DATE_GET_MINUTE(value), 2);
    PUT(writer, ":");
    put_digits(writer, (uint64_t)PyDateTime_DATE_GET_SECOND(value), 2);
    PUT(writer, "</dateTime.iso8601></value>");
    return 1;
}

static int
write_string(Writer *writer, PyObject *value)
{
    if (!has_room(writer, 64)) {
        return 0;
    }
    PUT(writer, "<value><string>");
    if (!write_text(writer, value) || !has_room(writer, 64)) {
        return 0;
    }
    PUT(writer, "</string></value>");
    return 1;
}

/* Write the name of a member. Programs use the same objects for it again and again, whose bytes are copied then. */
static int
write_name(Writer *writer, PyObject *name)
{
    Written *written = &writer->written[((uintptr_t)name >> 4) % NAMES];
    if (!has_room(writer, 64)) {
        return 0;
    }
    if (written->name == name) {
        if (!has_room(writer, written->length + 64)) {
            return 0;
        }
        put(writer, writer->start + written->place, (Py_ssize_t)written->length);
        return 1;
    }
    size_t place = (size_t)(writer->at - writer->start);
    PUT(writer, "<member><name>");
    if (!PyUnicode_CheckExact(name) || !write_text(writer, name) || !has_room(writer, 64)) {
        return 0;
    }
    PUT(writer, "</name>");
    *written = (Written){.name = name, .place = place, .length = (size_t)(writer->at - writer->start) - place};
    return 1;
}

/* Write the beginning of a list or of a dict; write_whole goes on with what is in it. */
static int
begin_container(Writer *writer, PyObject *holder, int is_list)
{
    if (!has_room(writer, 64)) {
        return 0;
    }
    if (is_list) {
        PUT(writer, "<value><array><data>");
    }
    else {
        PUT(writer, "<value><struct>");
    }
    if (writer->depth == writer->places) {
        size_t size = (size_t)writer->places * sizeof(Begun);
        Begun *larger = PyMem_Malloc(2 * size);
        if (larger == NULL) {
            PyErr_NoMemory();
            return 0;
        }
        memcpy(larger, writer->begun, size);
        if (writer->begun != writer->first) {
            PyMem_Free(writer->begun);
        }
        writer->begun = larger;
        writer->places *= 2;
    }
    writer->begun[writer->depth++] = (Begun){.holder = holder, .next = 0};
    return 1;
}

/* Write a scalar, or the beginning of a container. */
static int
write_one(Writer *writer, PyObject *value)
{
    if (PyUnicode_CheckExact(value)) {
        return write_string(writer, value);
    }
    if (PyLong_CheckExact(value)) {
        return write_int(writer, value);
    }
    if (PyDict_CheckExact(value)) {
        return begin_container(writer, value, 0);
    }
    if (PyList_CheckExact(value)) {
        return begin_container(writer, value, 1);
    }
    if (PyFloat_CheckExact(value)) {
        return write_double(writer, PyFloat_AS_DOUBLE(value));
    }
    if (PyBool_Check(value)) {
        if (!has_room(writer, 64)) {
            return 0;
        }
        put(writer, value == Py_True ? "<value><boolean>1</boolean></value>" : "<value><boolean>0</boolean></value>",
            LENGTH("<value><boolean>0</boolean></value>"));
        return 1;
    }
    if (value == Py_None) {
        if (writer->nil == Py_None || !has_room(writer, (size_t)PyBytes_GET_SIZE(writer->nil))) {
            return 0;
        }
        put(writer, PyBytes_AS_STRING(writer->nil), PyBytes_GET_SIZE(writer->nil));
        return 1;
    }
    if (PyBytes_CheckExact(value)) {
        return write_bytes(writer, value);
    }
    return Py_IS_TYPE(value, PyDateTimeAPI->DateTimeType) && write_datetime(writer, value);
}

static int
write_whole(Writer *writer, PyObject *value, Py_ssize_t max_depth)
{
    for (;;) {
        if (writer->depth >= max_depth || !write_one(writer, value)) {
            return 0;
        }
        for (value = NULL; value == NULL && writer->depth > 0;) { /* look for what comes next */
            Begun *begun = &writer->begun[writer->depth - 1];
            if (!has_room(writer, 64)) {
                return 0;
            }
            if (PyList_CheckExact(begun->holder)) {
                if (begun->next < PyList_GET_SIZE(begun->holder)) {
                    value = PyList_GET_ITEM(begun->holder, begun->next++);
                    continue;
                }
                PUT(writer, "</data></array></value>");
                writer->depth--;
                continue;
            }
            PyObject *name;
            if (begun->next > 0) {
                PUT(writer, "</member>");
            }
            if (!PyDict_Next(begun->holder, &begun->next, &name, &value)) {
                value = NULL;
                PUT(writer, "</struct></value>");
                writer->depth--;
                continue;
            }
            if (!write_name(writer, name)) {
                return 0;
            }
        }
        if (value == NULL) {
            return writer->at - writer->start <= writer->room;
        }
    }
}

static PyObject *
write_value(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    Writer writer;
    if (count != 5 || !(arguments[3] == Py_None || PyBytes_CheckExact(arguments[3]))) {
        PyErr_SetString(PyExc_TypeError, "the arguments are a value, two ints, bytes or None, and a bool");
        return NULL;
    }
    Py_ssize_t max_depth = PyLong_AsSsize_t(arguments[1]);
    writer.room = PyErr_Occurred() ? -1 : PyLong_AsSsize_t(arguments[2]);
    writer.nil = arguments[3];
    writer.i8 = arguments[4] == Py_True;
    if (PyErr_Occurred()) {
        return NULL;
    }
    writer.start = writer.at = writer.small;
    writer.end = writer.small + SMALL;
    writer.bytes = NULL;
    writer.begun = writer.first;
    writer.depth = 0;
    writer.places = FRAMES;
    memset(writer.written, 0, sizeof writer.written);
    int is_written = write_whole(&writer, arguments[0], max_depth);
    if (writer.begun != writer.first) {
        PyMem_Free(writer.begun);
    }
    if (!is_written) {
        Py_XDECREF(writer.bytes);
        if (PyErr_Occurred()) {
            return NULL;
        }
        Py_RETURN_NONE;
    }
    if (writer.bytes == NULL) {
        return PyBytes_FromStringAndSize(writer.small, writer.at - writer.small);
    }
    Py_ssize_t size = writer.at - writer.start;
    if (writer.end - writer.at > size / SLACK) {
        _PyBytes_Resize(&writer.bytes, size);
        return writer.bytes;
    }
    *writer.at = '\0'; /* there is room for it behind the end of any bytes; to give the rest back takes longer */
    Py_SET_SIZE(writer.bytes, size);
    return writer.bytes;
}

/* ------------------------------------------------------------------------------------------------------- the module */

static int
execute(PyObject *Py_UNUSED(module))
{
    fill_tables();
    PyDateTime_IMPORT;
    return PyDateTimeAPI == NULL ? -1 : 0;
}

static PyMethodDef methods[] = {
    {"read_call", (PyCFunction)(void (*)(void))read_call, METH_FASTCALL,
     "Return the method's name and its arguments, or None for an unusual document."},
    {"read_answer", (PyCFunction)(void (*)(void))read_answer, METH_FASTCALL,
     "Return the value of an answer, as the only one in a list, or None for an unusual document."},
    {"write_value", (PyCFunction)(void (*)(void))write_value, METH_FASTCALL,
     "Write a value in at most so many bytes, or return None for an unusual one."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{Py_mod_exec, execute}, {0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "gateway.codecs.xmlrpc._compiled",
    .m_doc = "Plain documents of XML-RPC, read and written in C.",
    .m_size = 0,
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__compiled(void)
{
    return PyModuleDef_Init(&definition);
}
