// All scripts of the product together.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { checkScript, type FunctionFacts } from './checker.js';
import type { FactBook } from './facts.js';
import type { UsedName } from './notes.js';
import { powerShellParser } from './syntax.js';

/** The sources, seen from the compiled file. */
export const SCRIPTS = fileURLToPath(
  new URL('../../../../shared/hypervisor/hyperv/powershell/scripts', import.meta.url),
);

export interface Script {
  readonly name: string;
  readonly text: string;
}

/** In the order in which host.ps1 loads them, itself last. */
export function readScripts(): Script[] {
  const read = (name: string): Script => ({
    name,
    text: readFileSync(join(SCRIPTS, name), 'utf8'),
  });
  const host = read('host.ps1');
  const loaded = [...host.text.matchAll(/^\. "\$PSScriptRoot\\([\w-]+\.ps1)"$/gm)].map(
    ([, name]) => name ?? '',
  );
  return [...loaded.map(read), host];
}

export const scriptFiles = (): string[] =>
  readdirSync(SCRIPTS).filter((name) => name.endsWith('.ps1'));

export interface AllFacts {
  readonly findings: string[];
  readonly used: ReadonlyMap<string, readonly UsedName[]>;
  readonly functions: ReadonlyMap<string, FunctionFacts>;
  /** What functions give. */
  readonly returns: ReadonlyMap<string, string>;
}

export async function checkAll(scripts: readonly Script[], book: FactBook): Promise<AllFacts> {
  const parse = await powerShellParser();
  const returns = new Map<string, string>();
  const findings: string[] = [];
  const used = new Map<string, readonly UsedName[]>();
  const functions = new Map<string, FunctionFacts>();
  for (const { name, text } of scripts) {
    const facts = checkScript(parse(text), book, returns);
    findings.push(...facts.findings.map((finding) => `${name}: ${finding}`));
    used.set(name, facts.used);
    for (const [key, value] of facts.functions) functions.set(key, value);
  }
  return { findings, used, functions, returns };
}
