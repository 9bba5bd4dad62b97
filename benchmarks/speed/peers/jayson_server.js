// JSON-RPC on node's jayson. It prints its port, and serves until it is terminated.
"use strict";

const jayson = require("jayson");

const server = jayson.Server({
  add: ([a, b], done) => done(null, a + b),
  addAsync: ([a, b], done) => { Promise.resolve(a + b).then((sum) => done(null, sum)); },
  echo: ([value], done) => done(null, value),
});

const http = server.http();
http.listen(0, "127.0.0.1", 4096, () => console.log(`ready at http://127.0.0.1:${http.address().port}/`));
