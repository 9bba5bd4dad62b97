const string SPOKEN = "spoken"

/** A place. */
struct Point { 1: required double x = 0.5; 2: required double y }

service Base { /** Lives. */ bool alive() }
