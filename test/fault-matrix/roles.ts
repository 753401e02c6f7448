// What a file is for, by its name: the durable steps of the fault matrix are told by role, not by path.

const ROLES: readonly (readonly [RegExp, string])[] = [
  // source
  [/^\/state\/\.[^/]+\.json\.[0-9a-f]{8}\.unfinished$/, 'ledger, new file'],
  [/^\/state\/[^/]+\.json$/, 'ledger'],
  [/^\/state\/[^/]+\.cells$/, 'ledger, dirty sets'],
  [/^\/state\/[^/]+\.lock$/, 'lease of the VM'],
  [/^\/state$/, 'state folder'],
  // store
  [/^\/store\/lock$/, 'lock of the store'],
  [/^\/store\/\.store\.json\.[0-9a-f]{8}\.unfinished$/, 'store.json, new file'],
  [/^\/store\/store\.json$/, 'store.json'],
  [/^\/store\/\.store\.json\.copy\.[0-9a-f]{8}\.unfinished$/, 'copy of store.json, new file'],
  [/^\/store\/store\.json\.copy$/, 'copy of store.json'],
  [/^\/store$/, 'store folder'],
  [/^\/store\/vms$/, 'folder of VMs'],
  // one VM
  [/\/\.journal\.[0-9a-f]{8}\.unfinished$/, 'journal or its archive, new file'],
  [/\/journal\.\d+$/, 'archive of the journal'],
  [/\/journal$/, 'journal'],
  [/\/\.protection\.json\.[0-9a-f]{8}\.unfinished$/, 'snapshot, new file'],
  [/\/protection\.json$/, 'snapshot'],
  [/\/\.scrub\.json\.[0-9a-f]{8}\.unfinished$/, 'state of the scrub, new file'],
  [/\/scrub\.json$/, 'state of the scrub'],
  [/\/progress$/, 'progress of a cycle'],
  [/\/removing$/, 'mark of a removal'],
  [/\/[^/]+\.delta$/, 'delta, data'],
  [/\/base\.vhdx$/, 'base, data'],
  [/\/base\.manifest$/, 'base, manifest'],
  [/\/base\.vhdx\.reserve$/, 'space reserved for a fold'],
  [
    /\/\.base\.manifest\.applying\.[0-9a-f]{8}\.unfinished$/,
    'manifest of the folded base, new file',
  ],
  [/\/base\.manifest\.applying$/, 'manifest of the folded base'],
  [/\/[^/]+\.manifest$/, 'delta, manifest'],
  [/\/cycles\/[^/]+$/, 'folder of a cycle'],
  [/\/cycles$/, 'folder of cycles'],
  [/\/disks\/[^/]+\/[^/]+$/, 'folder of a base'],
  [/\/disks\/[^/]+$/, 'folder of a disk'],
  [/\/disks$/, 'folder of disks'],
  [/^\/store\/vms\/[^/]+$/, 'folder of the VM'],
];

/** @throws Error for a file that has no role: give it one */
export function roleOf(path: string): string {
  const found = ROLES.find(([pattern]) => pattern.test(path));
  if (found !== undefined) return found[1];
  throw new Error(`${path} has no role in test/fault-matrix/roles.ts`);
}
