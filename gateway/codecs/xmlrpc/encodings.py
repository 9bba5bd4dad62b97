"""The character encodings that XML may be in, by the labels of the WHATWG Encoding standard.

Only encodings in which a byte below 0x80 that begins a character is ASCII are here, so that no two readers find
different tags in one document. Not here are ISO-2022-JP and HZ, which have states, UTF-7, and UTF-16 without a byte
order mark. Where a label of ISO 8859 means a Windows encoding to browsers, it means ISO 8859 here. RPC::XML writes
UTF-8 as us-ascii, and what is ASCII reads the same.
"""

_LABELS = {
    "utf-8": "utf-8 utf8 unicode-1-1-utf-8 unicode11utf8 unicode20utf8 x-unicode20utf8 us-ascii ascii ansi_x3.4-1968",
    "latin-1": "iso-8859-1 iso8859-1 iso88591 iso_8859-1 iso8859_1 iso_8859-1:1987 cp819 ibm819 iso-ir-100 l1 latin1"
    " latin-1 csisolatin1",
    "cp866": "ibm866 866 cp866 csibm866",
    "iso8859-2": "iso-8859-2 iso8859-2 iso88592 iso_8859-2 iso8859_2 iso_8859-2:1987 iso-ir-101 l2 latin2 csisolatin2",
    "iso8859-3": "iso-8859-3 iso8859-3 iso88593 iso_8859-3 iso8859_3 iso_8859-3:1988 iso-ir-109 l3 latin3 csisolatin3",
    "iso8859-4": "iso-8859-4 iso8859-4 iso88594 iso_8859-4 iso8859_4 iso_8859-4:1988 iso-ir-110 l4 latin4 csisolatin4",
    "iso8859-5": "iso-8859-5 iso8859-5 iso88595 iso_8859-5 iso8859_5 iso_8859-5:1988 iso-ir-144 cyrillic"
    " csisolatincyrillic",
    "iso8859-6": "iso-8859-6 iso8859-6 iso88596 iso_8859-6 iso8859_6 iso_8859-6:1987 iso-8859-6-e iso-8859-6-i"
    " iso-ir-127 arabic asmo-708 csiso88596e csiso88596i csisolatinarabic ecma-114",
    "iso8859-7": "iso-8859-7 iso8859-7 iso88597 iso_8859-7 iso8859_7 iso_8859-7:1987 iso-ir-126 greek greek8 ecma-118"
    " elot_928 csisolatingreek sun_eu_greek",
    "iso8859-8": "iso-8859-8 iso8859-8 iso88598 iso_8859-8 iso8859_8 iso_8859-8:1988 iso-8859-8-e iso-8859-8-i"
    " iso-ir-138 hebrew visual logical csiso88598e csiso88598i csisolatinhebrew",
    "iso8859-9": "iso-8859-9 iso8859-9 iso88599 iso_8859-9 iso8859_9 iso_8859-9:1989 iso-ir-148 l5 latin5 csisolatin5",
    "iso8859-10": "iso-8859-10 iso8859-10 iso885910 iso-ir-157 l6 latin6 csisolatin6",
    "iso8859-11": "iso-8859-11 iso8859-11 iso885911 tis-620",
    "iso8859-13": "iso-8859-13 iso8859-13 iso885913",
    "iso8859-14": "iso-8859-14 iso8859-14 iso885914",
    "iso8859-15": "iso-8859-15 iso8859-15 iso885915 iso_8859-15 l9 csisolatin9",
    "iso8859-16": "iso-8859-16",
    "koi8-r": "koi8-r koi koi8 koi8_r cskoi8r",
    "koi8-u": "koi8-u koi8-ru",
    "mac-roman": "macintosh mac x-mac-roman csmacintosh",
    "mac-cyrillic": "x-mac-cyrillic x-mac-ukrainian",
    "cp874": "windows-874 dos-874",
    **{f"cp{page}": f"windows-{page} cp{page} x-cp{page}" for page in range(1250, 1259)},
    "gb18030": "gb18030 gbk gb2312 gb_2312 gb_2312-80 x-gbk chinese csgb2312 csiso58gb231280 iso-ir-58",
    "big5hkscs": "big5 big5-hkscs cn-big5 csbig5 x-x-big5",
    "euc-jp": "euc-jp x-euc-jp cseucpkdfmtjapanese",
    "cp932": "shift_jis shift-jis sjis ms_kanji ms932 windows-31j x-sjis csshiftjis",
    "cp949": "euc-kr ks_c_5601-1987 ks_c_5601-1989 ksc5601 ksc_5601 korean windows-949 cseuckr"
    " csksc56011987 iso-ir-149",
}
ENCODINGS = {label: codec for codec, labels in _LABELS.items() for label in labels.split()}
