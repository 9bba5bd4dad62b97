// Found by the option includes.

include "deeper/base.thrift"

enum Mood { CALM, WILD = 4 }

const string WORD = base.SPOKEN

exception Worse { 1: base.Point where }

service Middle extends base.Base {
  base.Point point(1: Mood mood = Mood.WILD)
}
