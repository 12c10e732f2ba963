// The AWS SDK for JavaScript v3 as a sender: `node sender.mjs CONNECTIONS ADDRESS`, with the lines of senders.py.
//
// Promise.all over as many posts as there are connections, again and again: what AWS's own examples do, with the SDK's
// agent told to keep that many connections open.

import { Agent } from "node:https";
import { createInterface } from "node:readline";
import { ApiGatewayManagementApiClient, PostToConnectionCommand } from "@aws-sdk/client-apigatewaymanagementapi";
import { NodeHttpHandler } from "@smithy/node-http-handler";

const WARM_SECONDS = 0.1;
const [connections, address] = [Number(process.argv[2]), process.argv[3]];
const body = "x".repeat(2048);
const client = new ApiGatewayManagementApiClient({
  endpoint: `https://${address}/api`,
  requestHandler: new NodeHttpHandler({ httpsAgent: new Agent({ keepAlive: true, maxSockets: connections }) }),
});

let number = 0;
const post = () => {
  const receiver = `${String(number++ % 1000).padStart(11, "0")}AAAA=`;
  return client.send(new PostToConnectionCommand({ ConnectionId: receiver, Data: body }));
};

async function run(seconds) {
  const end = performance.now() + seconds * 1000;
  let sends = 0;
  do {
    await Promise.all(Array.from({ length: connections }, post));
    sends += connections;
  } while (performance.now() < end);
  return sends;
}

await run(0);
console.log("{}");
for await (const line of createInterface({ input: process.stdin })) {
  await run(WARM_SECONDS);
  const [began, cpu] = [performance.now(), process.cpuUsage()];
  const sends = await run(JSON.parse(line).seconds);
  const { user, system } = process.cpuUsage(cpu);
  console.log(JSON.stringify({ sends, seconds: (performance.now() - began) / 1000, cpu: (user + system) / 1e6 }));
}
