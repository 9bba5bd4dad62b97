// Every type of Thrift, in every place where it can stand.

enum Color {
  RED = 1,
  GREEN = 5
}

struct Person {
  1: required i32 id,
  2: string last_name,
  3: optional string first_name,
  4: string number
}

union Either {
  1: string text,
  2: i64 number
}

struct Everything {
  1: bool truth,
  2: i8 tiny,
  3: i16 small,
  4: i32 medium,
  5: i64 large,
  6: double real,
  7: string text,
  8: binary data,
  9: Color color,
  10: list<string> texts,
  11: set<i32> ints,
  12: map<string, double> reals,
  13: map<i64, string> by_int,
  14: map<bool, Color> by_bool,
  15: map<Color, bool> by_color,
  16: map<binary, binary> by_data,
  17: list<bool> truths,
  18: Either either,
  19: Person person,
  20: list<Everything> inner,
  40: list<map<string, list<binary>>> deep,
  1000: bool far
}
