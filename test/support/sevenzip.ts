// 7zz as judge of our files: the reference for differencing chains, which it follows through
// relative_path inside one folder, and for 4096-byte sectors (spec vhdx.md § 14).

import { expectTool, hashOfTool, runTool, type ToolRun } from './run-tool.js';

export const SEVENZIP = '7zz';

/** SHA-256 of the whole virtual disk, through the chain. */
export async function sevenzipHash(file: string): Promise<string> {
  return hashOfTool(SEVENZIP, ['x', '-tvhdx', '-so', file]);
}

/** The listing: headers, GUIDs, chain members. */
export async function sevenzipList(file: string): Promise<string> {
  return (await expectTool(SEVENZIP, ['l', '-tvhdx', file])).text;
}

/** A test run that may fail; 7zz refuses overlaps, reserved bits and unknown states. */
export async function sevenzipTest(file: string): Promise<ToolRun> {
  return runTool(SEVENZIP, ['t', '-tvhdx', file]);
}
