// What the test programs offer over Thrift: the articles' calculator, the common methods, and every type there is.

include "shapes.thrift"

exception InvalidOperation {
  1: i32 operation,
  2: string why
}

service Calculator {
  i64 add(1: i64 a, 2: i64 b),
  i64 subtract(1: i64 a, 2: i64 b),
  i64 multiply(1: i64 a, 2: i64 b),
  double divide(1: double a, 2: double b) throws (1: InvalidOperation invalid)
}

service Programs extends Calculator {
  shapes.Everything echo(1: shapes.Everything value),
  double pause(1: double seconds),
  i32 mark(1: string path, 2: double seconds),
  shapes.Everything getObj(),
  void sendObj(1: shapes.Everything data),
  list<shapes.Person> search(1: string number = "", 2: string last_name = "", 3: string first_name = ""),
  oneway void leave(1: string path),
  binary reverse(1: binary data),
  bool negate(1: bool value),
  void crash(1: string why),
  shapes.Color paint(1: shapes.Color color),
  list<list<i8>> nest(1: list<list<i8>> rows)
}
