// The code broken on purpose, one place at a time: each of these the simulation must notice. A patch
// replaces text of the compiled code, which has to stand there exactly once, so that a patch that does
// not apply any more fails loudly. `npm run simulate -- --mutant NAME` runs one, `--mutants` all of them
// and writes down which seed noticed each (noticed.json, and the table of docs/testing.md).

export interface Mutant {
  readonly name: string;
  /** What is broken, for people. */
  readonly what: string;
  readonly patches: readonly Patch[];
}

export interface Patch {
  /** Compiled file below dist. */
  readonly file: string;
  readonly find: string;
  readonly replace: string;
}

export const MUTANTS: readonly Mutant[] = [
  {
    name: 'ledger-unflushed',
    what: 'the reference point advances before the ledger is durable',
    patches: [
      {
        file: 'source-agent/ledger-store.js',
        find: 'await writeJsonDurably(fs, this.#jsonPath, LEDGER_FORMAT, fields, random);',
        replace: `const lazy = new Proxy(fs, { get: (target, name) =>
                name === 'flushFolder' ? async () => undefined : target[name].bind(target) });
            await writeJsonDurably(lazy, this.#jsonPath, LEDGER_FORMAT, fields, random);`,
      },
    ],
  },
  {
    name: 'in-flight-dropped',
    what: 'a cycle whose answer was lost is not owed again',
    patches: [
      {
        file: 'source-agent/ledger.js',
        find: 'const pending = union(debt.pending, debt.inFlight);',
        replace: 'const pending = debt.pending;',
      },
    ],
  },
  {
    name: 'data-unflushed',
    what: 'the commit record comes before the data is durable',
    patches: [
      {
        file: 'dr-receiver/ingest/disk-intake.js',
        find: 'allDone([this.#data.flush(), this.#manifestFile.flush()])',
        replace: 'allDone([this.#manifestFile.flush()])',
      },
    ],
  },
  {
    name: 'journal-unflushed',
    what: 'a commit is acknowledged before its journal record is durable',
    patches: [
      {
        file: 'dr-receiver/store/journal.js',
        find: 'throw error;\n            }\n            try {\n                await file.flush();',
        replace: 'throw error;\n            }\n            try {',
      },
    ],
  },
  {
    name: 'position-unflushed',
    what: 'positions are acknowledged before they are durable',
    patches: [
      {
        file: 'dr-receiver/ingest/incoming-cycle.js',
        find: 'await allDone([...flush(), this.#progress.flush()]);',
        replace: 'void allDone([...flush(), this.#progress.flush()]).catch(() => undefined);',
      },
    ],
  },
  {
    name: 'layer-removed',
    what: 'forgetting a point removes a layer on which listed points stand',
    patches: [
      {
        file: 'dr-receiver/ingest/leftover-cycles.js',
        find: 'const committed = protection.segments.cycleIds;',
        replace: 'const committed = new Set(protection.listed.map((point) => point.cycleId));',
      },
    ],
  },
  {
    name: 'parent-unchecked',
    what: 'a cycle is opened and committed whose parent is not the head',
    patches: [
      {
        file: 'dr-receiver/ingest/vm-desk.js',
        find: "return { kind: 'parentRefused' };",
        replace: 'void 0;',
      },
      {
        file: 'dr-receiver/ingest/vm-desk.js',
        find: "throw new DrError('E_STATE', `cycle ${cycleId} does not follow",
        replace: 'void (`cycle ${cycleId} does not follow',
      },
    ],
  },
  {
    name: 'commit-answered-anew',
    what: 'a commit that is asked for again gets another answer',
    patches: [
      {
        file: 'dr-receiver/ingest/vm-desk.js',
        find: 'return known;\n        this.vm.requireSound();',
        replace:
          'return { ...known, committedAtMs: known.committedAtMs + 1 };\n        this.vm.requireSound();',
      },
    ],
  },
  {
    name: 'invalid-tracking-ignored',
    what: 'change tracking that is not valid counts as "nothing changed"',
    patches: [
      {
        file: 'source-agent/tracked-changes.js',
        find: "return { changed: 'all', because: `change tracking",
        replace: 'return { changed: await cellsOf([], sizeBytes), because: `change tracking',
      },
    ],
  },
  {
    name: 'generation-reused',
    what: 'a disk that was resized keeps its generation',
    patches: [
      {
        file: 'source-agent/plan.js',
        find: 'return Math.max(above, isFree ? known.generation : known.generation + 1);',
        replace: 'return known.generation;',
      },
    ],
  },
  {
    name: 'lease-shared',
    what: 'two cycles of one VM run at once',
    patches: [
      {
        file: 'source-agent/vm-lease.js',
        find: "return await fs.open(file, { mode, lock: 'exclusive' });",
        replace: "return await fs.open(file, { mode, lock: 'none' });",
      },
    ],
  },
  {
    name: 'other-head-accepted',
    what: 'a delta is sent to a head that the ledger does not know',
    patches: [
      {
        file: 'source-agent/plan.js',
        find: 'if (chain.confirmed.pointId !== headPointId)',
        replace: 'if (chain.confirmed.pointId === undefined)',
      },
    ],
  },
  {
    name: 'zeros-unsent',
    what: 'cells that the guest freed are not sent',
    patches: [
      {
        file: 'source-agent/disk-stream.js',
        find: 'if (this.#isBase)',
        replace: 'if (this.#isBase || remote.compare === undefined)',
      },
    ],
  },
  {
    name: 'hash-unchecked',
    what: 'bytes that rotted are given out',
    patches: [
      {
        file: 'shared/delta/delta-source.js',
        find: 'if (isAllZero(bytes) || !hashCell(bytes).equals(entry.hash)) {',
        replace: 'if (bytes.length === 0) {',
      },
    ],
  },
  {
    name: 'pin-ignored',
    what: 'a pinned point is forgotten',
    patches: [
      {
        file: 'dr-receiver/store/retention.js',
        find: "? 'pinned'",
        replace: "? ''",
      },
    ],
  },
  {
    name: 'store-name-unflushed',
    what: "a store's name is not durable when it takes its first point",
    patches: [
      {
        file: 'dr-receiver/store/store.js',
        find: 'await fs.flushFolder(layout.folder);',
        replace: '',
      },
    ],
  },
  {
    name: 'progress-left',
    what: 'what a clean-up that was cut off left of a committed cycle is not looked for again',
    patches: [
      {
        file: 'dr-receiver/ingest/vm-desk.js',
        find: 'if (this.#isTidy)',
        replace: 'if (this.#isTidy || cycleId !== undefined)',
      },
    ],
  },
  {
    name: 'foreign-removed',
    what: 'the clean-up removes what bears no tag of ours',
    patches: [
      {
        file: 'source-agent/checkpoint-lease.js',
        find: 'const isOurs = (tag) => tag.protectionId === protectionId;',
        replace: 'const isOurs = () => true;',
      },
    ],
  },
  {
    name: 'compact-unflushed',
    what: 'the parts go before the delta that has them together is durable',
    patches: [
      {
        file: 'dr-receiver/reclaim/compact.js',
        find: 'await data.flush();\n            await manifest.flush();',
        replace: '',
      },
    ],
  },
  {
    name: 'parts-removed-early',
    what: 'the parts go before the journal names the delta that has them together',
    patches: [
      {
        file: 'dr-receiver/reclaim/compact.js',
        find: 'const isStillSo = await vm.change(async () => {',
        replace: `await removeDeltaFiles(fs, vm.layout, segment, parts);
        const isStillSo = await vm.change(async () => {`,
      },
    ],
  },
  {
    name: 'rewrite-unflushed',
    what: 'a journal that was written anew takes its place before it is durable',
    patches: [
      {
        file: 'dr-receiver/store/journal.js',
        find: 'await file.write(0, bytes);\n                    await file.flush();',
        replace: 'await file.write(0, bytes);',
      },
    ],
  },
  {
    name: 'fold-unhidden',
    what: 'a fold writes into the base while points are read that no delta hides it from',
    patches: [
      {
        file: 'dr-receiver/reclaim/fold.js',
        find: 'const lease = await vm.leases.change(segment, seams.patience);',
        replace: 'const lease = { release: () => undefined };',
      },
      // and the lock of the file, which would hold it up as well, lets it in
      {
        file: 'shared/vhdx/vhdx-file.js',
        find: "lock: options.lock ?? (isWritable ? 'exclusive' : 'shared'),",
        replace: "lock: options.lock ?? (isWritable ? 'none' : 'shared'),",
      },
    ],
  },
  {
    name: 'repair-unchecked',
    what: 'a repair writes what the source gave without comparing its hash with the manifest',
    patches: [
      {
        file: 'dr-receiver/store/repair.js',
        find: 'const isIt = wanted.hash === undefined ? isZero : hash?.equals(wanted.hash) === true;',
        replace: 'const isIt = true;',
      },
    ],
  },
  {
    name: 'seed-believed',
    what: 'a staged cell counts as the one of the source, whatever its hash',
    patches: [
      {
        file: 'source-agent/disk-stream.js',
        find: 'if ((await hashes.at(cell))?.equals(hash) === true)',
        replace: 'if ((await hashes.at(cell)) !== undefined)',
      },
      {
        file: 'dr-receiver/ingest/staged-cells.js',
        find: 'if (this.#head?.cell !== cell || !this.#head.hash.equals(hash))',
        replace: 'if (this.#head?.cell !== cell)',
      },
      {
        file: 'dr-receiver/ingest/staged-cells.js',
        find: 'return hashCell(bytes).equals(hash) ? bytes : undefined;',
        replace: 'return bytes;',
      },
    ],
  },
  {
    name: 'scrub-blind',
    what: 'the scrub does not read the base',
    patches: [
      {
        file: 'dr-receiver/maintenance/scrub.js',
        find: 'async #read(layer, before, isDeviceSound) {',
        replace: `async #read(layer, before, isDeviceSound) {
        if (layer.disk.transfer === 'base') return { ...NOTHING_READ, isEnd: true };`,
      },
    ],
  },
];
