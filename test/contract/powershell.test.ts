// The PowerShell scripts against what is recorded of Windows (hyperv-facts.json) and against the declarations of the
// operations. Nothing of Windows runs here: these names are all that can be wrong without a host.

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { checkScript } from '../support/powershell-contract/checker.js';
import { type Declared, declaredOperations } from '../support/powershell-contract/declared.js';
import { FactBook, type Facts } from '../support/powershell-contract/facts.js';
import type { UsedName } from '../support/powershell-contract/notes.js';
import {
  type AllFacts,
  checkAll,
  readScripts,
  type Script,
  scriptFiles,
} from '../support/powershell-contract/scripts.js';
import { powerShellParser, syntaxErrors } from '../support/powershell-contract/syntax.js';

/** Of the collection, and what we add to it. */
const [facts, added] = ['hyperv-facts', 'added-facts'].map((name) => {
  const path = new URL(`../../../test/contract/${name}.json`, import.meta.url);
  return JSON.parse(readFileSync(fileURLToPath(path), 'utf8')) as Facts;
}) as [Facts, Facts];

/** Operations of the lanes themselves, declared nowhere else. */
const OWN_OPERATIONS = ['host.ping'];

/** Another letter in the middle of a name, or another digit of a number. */
function misspelt(text: string, { start, text: name }: UsedName): string {
  const at = start + Math.floor(name.length / 2);
  const letter = text[at] ?? '';
  const other = /^\d+$/.test(name) ? String((Number(letter) + 5) % 10) : letter === 'q' ? 'z' : 'q';
  return text.slice(0, at) + other + text.slice(at + 1);
}

describe('the PowerShell scripts', () => {
  let scripts: Script[];
  let book: FactBook;
  let all: AllFacts;
  let operations: ReadonlyMap<string, string>;
  let declared: readonly Declared[];

  before(async () => {
    scripts = readScripts();
    book = new FactBook(facts, added);
    all = await checkAll(scripts, book);
    declared = await declaredOperations();
    const host = scripts.find(({ name }) => name === 'host.ps1')?.text ?? '';
    operations = new Map(
      [...host.matchAll(/^ {4}'([\w.]+)' = '([\w-]+)'$/gm)]
        .filter(([, , name]) => name?.startsWith('Invoke-Hvdr') === true)
        .map(([, operation, name]) => [operation ?? '', name ?? '']),
    );
  });

  it('are all loaded by host.ps1', () => {
    expect(scripts.map(({ name }) => name).sort()).to.deep.equal(scriptFiles().sort());
  });

  it('name nothing that Windows is not known to have', () => {
    expect(all.findings, all.findings.join('\n')).to.have.length(0);
  });

  it('call no function that is not there', () => {
    const missing = [...all.functions].flatMap(([name, { calls }]) =>
      [...calls]
        .filter((called) => !all.functions.has(called))
        .map((called) => `${name}: ${called}`),
    );
    expect(missing).to.deep.equal([]);
  });

  it('are found out when one letter of any name of Windows is another', async () => {
    const parse = await powerShellParser();
    const unnoticed: string[] = [];
    let count = 0;
    for (const { name, text } of scripts) {
      const places = new Map((all.used.get(name) ?? []).map((used) => [used.start, used]));
      for (const used of places.values()) {
        count += 1;
        // the function alone: what the others give is known from the first look
        const from = Math.max(0, text.lastIndexOf('\nfunction ', used.start));
        const end = text.indexOf('\n}\n', used.start);
        const part = misspelt(text, used).slice(from, end < 0 ? text.length : end + 3);
        const { findings } = checkScript(parse(part), book, new Map(all.returns));
        if (findings.length === 0) {
          const line = text.slice(0, used.start).split('\n').length;
          unnoticed.push(`${name}:${line} ${used.text}`);
        }
      }
    }
    expect(unnoticed, unnoticed.join('\n')).to.have.length(0);
    expect(count).to.be.greaterThan(850);
  });

  it('name what the four kinds of names in hyperv.md § 7 are', () => {
    const names = new Set([...all.used.values()].flat().map(({ text }) => text));
    for (const name of [
      ...['Set-VMMemory', 'DynamicMemoryEnabled', 'AutomaticStartAction'],
      ...['Msvm_SnapshotOfVirtualSystem', 'ConvertToReferencePoint', 'AffectedSnapshot'],
      ...['ResilientChangeTrackingIdentifiers', 'GuestBackupType', 'ParentSnapshotId'],
    ]) {
      expect(names.has(name), name).to.equal(true);
    }
  });

  it('name nothing as a text or a number that is not looked up', () => {
    const names = new Set([...all.used.values()].flat().map(({ text }) => text));
    for (const name of [
      ...['ReturnValue', 'Job', 'ResultingSnapshot', 'ChangedByteOffsets', 'Errors'],
      ...[String.raw`root\virtualization\v2`, 'Microsoft:Hyper-V:Snapshot:Recovery'],
      ...['Microsoft:Hyper-V:Virtual Hard Disk', '31', '32768', 'AutomaticCheckpointsEnabled'],
      ...['SyncedReplica', 'Running', 'ClusSvc*', 'Message', 'ConfirmPreference', 'ObjectNotFound'],
    ]) {
      expect(names.has(name), name).to.equal(true);
    }
  });

  it('need every entry of the facts about PowerShell and WMI', () => {
    const unused = [...facts.entries, ...added.entries]
      .filter(({ kind }) => !kind.startsWith('win32-'))
      .map(({ kind, name }) => `${kind} ${name}`)
      .filter((key) => !book.asked.has(key));
    expect(unused).to.deep.equal([]);
  });

  it('have one function for each declared operation, and none besides', () => {
    const names = declared.map(({ name }) => name);
    expect([...operations.keys()].sort()).to.deep.equal([...names, ...OWN_OPERATIONS].sort());
    for (const [name, called] of operations) {
      const words = name.split('.').map((word) => word.charAt(0).toUpperCase() + word.slice(1));
      expect(called).to.equal(`Invoke-Hvdr${words.join('')}`);
      expect(all.functions.has(called), called).to.equal(true);
    }
    const functions = [...all.functions.keys()].filter((name) => name.startsWith('Invoke-Hvdr'));
    expect(functions.sort()).to.deep.equal([...operations.values()].sort());
  });

  it('read exactly the arguments that are declared', () => {
    for (const { name, args } of declared) {
      const used = all.functions.get(operations.get(name) ?? '')?.args ?? new Set();
      expect([...used].sort(), name).to.deep.equal([...args].sort());
    }
  });

  it('answer exactly the fields that are read', () => {
    for (const { name, answer } of declared) {
      expect([...keysOf(operations.get(name) ?? '')].sort(), name).to.deep.equal(
        [...answer].sort(),
      );
    }
  });

  it('answer 64-bit job states with the names of all known states', () => {
    const jobs = scripts.find(({ name }) => name === 'jobs.ps1')?.text ?? '';
    const table = [...jobs.matchAll(/^ {4}(\d+) = '(\w+)'$/gm)].map(([, number]) => Number(number));
    const known = book.wmiClass('Msvm_ConcreteJob')?.properties?.['JobState'];
    const values = typeof known === 'object' ? Object.values(known.values ?? {}) : [];
    expect(table).to.include.members(values);
  });

  it('take no letter of a request as script', () => {
    const words =
      /Invoke-Expression|\biex\b|ScriptBlock|AddScript| -Command\b|-EncodedCommand|DownloadString/i;
    for (const { name, text } of scripts) expect(words.test(text), name).to.equal(false);
  });

  it('are refused by the parser when a brace is missing', async () => {
    const parse = await powerShellParser();
    for (const { name, text } of scripts) {
      const at = text.lastIndexOf('}');
      expect(syntaxErrors(parse(text.slice(0, at) + text.slice(at + 1))), name).to.not.have.length(
        0,
      );
    }
  });

  /** Keys that a function answers, with those of the functions that shape parts of it. */
  function keysOf(name: string, seen = new Set<string>()): Set<string> {
    const keys = new Set<string>();
    const found = all.functions.get(name);
    if (found === undefined || seen.has(name)) return keys;
    seen.add(name);
    for (const key of found.keys) keys.add(key);
    for (const called of found.calls) {
      for (const key of keysOf(called, seen)) keys.add(key);
    }
    return keys;
  }
});
