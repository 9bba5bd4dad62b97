#!/usr/bin/env thrift
/* Each construct of the language that Apache's compiler 0.17 accepts, in each place where it may stand. */

namespace * everything
namespace py every.thing // a comment behind
namespace xsd test (uri = "http://example.com/ns/V1")
namespace st Every.Thing
include "more.thrift"
cpp_include "<deque>"
include 'nowhere.thrift'

/** A banner that no definition follows. */

typedef i32 (js.type = "Long", cpp.min = "0") Id (a = "b");
typedef list<Later> Laters
typedef string Name,
typedef more.Mood Mood
typedef map<Name, list<set<Id>>> Nested

struct Later { 1: string name; 2: Id id }

const i32 PLAIN = 7
const i32 SIGNED = -0x1F,
const i64 LARGE = 0x7FFFFFFFFFFFFFFF;
const double REAL = -1.5e-3
const double WHOLE = 3
const double POINT = .5
const bool YES = true
const bool ONE = 1
const string QUOTED = 'it\'s "here"\n\t\\'
const string SAME = QUOTED
const list<i32> LIST = [1, PLAIN; more.Mood.CALM 3]
const map<string, list<i32>> TABLE = {"a": [1], 'b': [2],}
const Later STRUCT = {"name": "x", "id": 9}
const more.Mood MOOD = more.Mood.WILD

enum Color {
  NONE
  RED = 0x10 (a, b = "c") ;
  GREEN,
  /** The sky. */
  BLUE = -3
  BELOW
  CRIMSON = 16
} (enum.note = "x")

/**
 * What is thrown.
 */
exception Trouble {
  1: string why
  2: i32 code = PLAIN
} (deprecated)

union Choice {
  1: i32 number
  2: string text
}

struct Empty xsd_all {}

struct Everything {
  1: required i32 must
  2: optional i64 may = LARGE
  3: double real = 2,
  4: string text = "t" (a.b = "c", d) ;
  5: binary data = "bytes"
  6: bool truth = 0
  7: i8 tiny = -8
  8: byte old = 9
  9: i16 small = SIGNED
  10: string old_text
  11: Color color = Color.RED
  12: Color number = 16
  13: more.Mood mood = more.Mood.CALM
  14: Mood aliased = Mood.WILD
  15: map cpp_type "std::map" <i32, string> (x = "y") mapped = {1: "one"}
  16: set cpp_type "std::set" <string> members = ["a", SAME]
  17: list<i32> cpp_type "std::deque" items = [1, PLAIN, 3]
  18: optional Everything & itself
  19: Later later = {"name": "x", "id": 9}
  20: Name alias_text = "one"
  21: list<Everything> (a = "b") children = []
  22: map<string, Everything> named = {}
  23: Choice choice = {"number": 3}
  24: i32 xsd xsd_optional xsd_nillable xsd_attrs { 1: string lang; 2: i32 x } (a = "b")
  25: required string kept = more.WORD
  26: Laters laters
  27: Nested nested
  28: set<i32> braces = {}
  29: map<Color, bool> by_color = {Color.RED: 1, Color.BLUE: 0}
  30: map<bool, double> by_truth = {true: 1, false: REAL}
  31: map<list<i32>, i32> by_list = {[1]: 2}
  32: double whole = WHOLE
}

struct Unnumbered {
  string first
  i32 second,
  7: bool seventh
  required bool third;
  -4: i32 fourth
  0: i32 fifth
}

service First extends more.Middle {
  void nothing()
  oneway void leave(1: string path),
  async void leave_again(1: string path)

  /**
   * Adds two numbers.
   *
   *   Indented, as it is.
   */
  i64 add(1: i64 a, 2: i64 b = 3) throws (1: Trouble trouble, 2: more.Worse worse) (deprecated = "yes"),

  // Says it
  // in two lines.
  string said(
    /** The name of somebody. */
    1: Name name
    # How often
    2: optional i32 often
  )

  // Far above.

  Laters undescribed(Id one, Id two); // behind it
  Color color(1: Color color = Color.GREEN)
  //
  // ------------
  /* In a block. */
  map<string, Everything> (a = "b") everything(1: Everything value = {"must": 1})
  Choice chosen()
} (service.note = "x")

service Second extends First {
  i32 counted(1: Choice choice)
}
