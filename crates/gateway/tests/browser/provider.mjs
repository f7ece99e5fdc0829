// An OpenID Connect provider on loopback, with its own login form: the certified `oidc-provider`,
// as its documentation has it. Says its issuer in a line, and ends with its standard input.

import { createServer } from "node:http";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const packages = createRequire(`${process.env.CLAWGATE_NODE_MODULES}/`);
const { Provider } = await import(pathToFileURL(packages.resolve("oidc-provider")));

const people = {
  ada: { email: "Ada@example.com", email_verified: true, groups: ["platform", "everybody"] },
  eve: { email: "eve@example.com", email_verified: true, groups: ["everybody"] },
  uma: { email: "uma@example.com", email_verified: false, groups: ["platform"] },
};

const server = createServer();
await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
const issuer = `http://127.0.0.1:${server.address().port}`;
const provider = new Provider(issuer, {
  clients: [
    {
      client_id: "clawgate",
      client_secret: process.env.CLIENT_SECRET,
      redirect_uris: [process.env.REDIRECT_URI],
    },
  ],
  pkce: { required: () => true },
  claims: { openid: ["sub"], email: ["email", "email_verified"], groups: ["groups"] },
  // Claims of scopes come with the ID token, or have to be asked for.
  conformIdTokenClaims: process.env.THIN === "true",
  cookies: { keys: ["a key of a test"] },
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, ...people[id] }) }),
});
server.on("request", provider.callback());
console.log(issuer);
process.stdin.on("end", () => process.exit(0)).resume();
