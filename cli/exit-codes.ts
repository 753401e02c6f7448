// The exit codes of every command (cli.md, failover.md § 6). Scripts rely on them. Codes of errors
// come from the catalogue; this table says in words what each number means, for --help and docs.

export const EXIT_CODES: readonly (readonly [code: number, meaning: string])[] = [
  [0, 'done'],
  [1, 'something is unprotected, failed or differs; the rest was done'],
  [2, 'wrong usage'],
  [3, 'done, with warnings'],
  [10, 'not possible in the present state'],
  [11, 'another process works on the same thing'],
  [12, 'no such restore point, or a pattern matched no VM'],
  [13, 'a restore point does not read back to its manifest'],
  [14, 'a restore point is pinned'],
  [15, 'a file or delta is damaged or not legal'],
  [16, 'a file, device or outside program failed'],
  [20, 'the source is alive, or does not allow it'],
  [21, 'the other site does not answer'],
  [22, 'the guest did not shut down in time'],
  [23, 'the last changes did not come over; the source goes on'],
  [24, 'the source speaks for an epoch that has ended'],
  [25, 'the VM may run at both sites, or is fenced at this one'],
  [26, 'halted: a step or a record of a protection'],
  [30, 'a network is not mapped, or not isolated'],
  [31, 'a rule for addresses does not fit'],
  [32, 'no space left'],
  [33, 'the target exists, or two disks do not fit each other'],
  [34, 'the changes are not known; the next cycle compares'],
  [35, 'application consistency was required and not reached'],
  [40, 'not confirmed, or the plan has changed'],
  [41, 'key, version or message refused'],
  [42, 'no progress for too long'],
  [70, 'internal error: a bug of this program'],
  [129, 'stopped by SIGHUP'],
  [130, 'stopped by SIGINT'],
  [141, 'the reader of standard output went away'],
  [143, 'stopped by SIGTERM'],
];

/** Exit code of a run whose stdout lost its reader, as the shell reports SIGPIPE. */
export const EXIT_OUTPUT_CLOSED = 141;

/** The block that ends every --help. */
export function exitCodesHelp(): string {
  const lines = EXIT_CODES.map(([code, meaning]) => `  ${String(code).padStart(3)}  ${meaning}`);
  return `\nExit codes:\n${lines.join('\n')}\n\nhvdr explain E_CODE tells cause and remedy of an error.\n`;
}
