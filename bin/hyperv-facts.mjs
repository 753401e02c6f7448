// Writes test/contract/hyperv-facts.json: of the whole collection of facts about Hyper-V, a file that is no part of the
// checkout, the entries that our scripts and our binding of virtdisk.dll name. Run it after one of them has come to
// name something new:
//
//   node bin/hyperv-facts.mjs PATH/hyperv-api.json        (after a build)

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { builtFolder, root } from './checkout.mjs';

const path = process.argv[2];
if (path === undefined) throw new Error('the path of the whole collection is missing');
const whole = JSON.parse(readFileSync(path, 'utf8'));
const from = (...names) => import(join(builtFolder, 'test', 'support', ...names));
const { FactBook, trimFacts } = await from('powershell-contract', 'facts.js');
const { checkAll, readScripts } = await from('powershell-contract', 'scripts.js');
const { BELIEFS, checkNative } = await from('native-contract.js');

const facts = { sources: whole.meta.generated_from, entries: whole.entries };
const added = JSON.parse(readFileSync(join(root, 'test', 'contract', 'added-facts.json'), 'utf8'));
const book = new FactBook(facts, added);
const { findings } = await checkAll(readScripts(), book);
for (const finding of [...findings, ...checkNative(BELIEFS, book)]) console.error(finding);
const { sources, entries } = trimFacts(facts, book.asked);
const lines = entries.map((entry) => JSON.stringify(entry)).join(',\n');
const target = join(root, 'test', 'contract', 'hyperv-facts.json');
writeFileSync(target, `{"sources": ${JSON.stringify(sources)},\n"entries": [\n${lines}\n]}\n`);
