// ethers: node ethereum.cjs FOLDER URL, with the modules that are in the folder. It prints, as JSON, what it has got.
const { WebSocketProvider } = require("node:module").createRequire(`${process.argv[2]}/`)("ethers");

async function main(url) {
  const provider = new WebSocketProvider(url);
  const address = "0x00000000219ab540356cBB839Cbe05303d7705Fa";
  const said = {
    chain: Number((await provider.getNetwork()).chainId),
    block: await provider.getBlockNumber(),
    balance: String(await provider.getBalance(address)),
    several: await Promise.all([1, 2, 3, 4].map((each) => provider.send("echo", [each]))),
    called: await provider.call({ to: address, data: "0x01" }),
  };
  const failed = await provider.call({ to: address, data: "0x02" }).catch((error) => error);
  said.failed = [failed.code, failed.reason];
  said.missing = await provider.send("eth_nothing", []).catch((error) => error.error.code);
  said.heads = await several(provider, "block", 3);
  said.logs = (await several(provider, { address }, 2)).map((log) => [log.address, log.blockNumber, log.data]);
  await provider.send("echo", [0]); // what was sent before is done
  console.log(JSON.stringify(said));
  await provider.destroy();
}

function several(provider, event, count) {
  return new Promise((resolve) => {
    const found = []; // a value may come after off
    provider.on(event, function note(value) {
      if (found.length < count) {
        found.push(value);
      } else {
        return;
      }
      if (found.length === count) {
        provider.off(event, note).then(() => resolve(found));
      }
    });
  });
}

main(process.argv[3]).catch((error) => {
  console.error(error);
  process.exit(1);
});
