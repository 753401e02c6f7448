// The checks of a VM that came up, as the parameter `checks` names them:
//
//   heartbeat, address, tcp:PORT, tcp:HOST:PORT, script:NAME ARGUMENT …        (separated by commas)
//
// `tcp:PORT` asks the address of the guest; HOST is for a port that is forwarded, or that stands for the
// service elsewhere.

import { DrError } from '../../../shared/errors.js';
import { isScriptName, parseTcpAddress } from '../../../shared/probe/index.js';

export type Check =
  | { readonly kind: 'heartbeat' }
  | { readonly kind: 'address' }
  | { readonly kind: 'tcp'; readonly host: string | undefined; readonly port: number }
  | { readonly kind: 'script'; readonly name: string; readonly args: readonly string[] };

const CHECKS_MAX = 32;
const CHECK_CHARACTERS_MAX = 1024;

/**
 * The checks that a text names, in its order; none for an empty text.
 * @throws DrError E_PARAMETER
 */
export function parseChecks(text: string): readonly Check[] {
  const names = text.split(',').map((name) => name.trim());
  if (names.length === 1 && names[0] === '') return [];
  if (names.length > CHECKS_MAX) {
    throw new DrError('E_PARAMETER', `${names.length} checks are asked for, at most ${CHECKS_MAX}`);
  }
  const checks = names.map(parseCheck);
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined) {
    throw new DrError('E_PARAMETER', `the check ${twice} is asked for twice`);
  }
  return checks;
}

function parseCheck(text: string): Check {
  if (text === 'heartbeat' || text === 'address') return { kind: text };
  if (text.length <= CHECK_CHARACTERS_MAX) {
    const [, kind, rest = ''] = /^(tcp|script):(.+)$/.exec(text) ?? [];
    if (kind === 'tcp') {
      return { kind, ...parseTcpAddress(rest, `the check ${text}`) };
    }
    const [name = '', ...args] = rest.split(/\s+/);
    if (kind === 'script' && isScriptName(name)) return { kind, name, args };
  }
  throw new DrError('E_PARAMETER', `there is no check "${text.slice(0, CHECK_CHARACTERS_MAX)}"`, {
    hint: 'Checks: heartbeat, address, tcp:PORT, tcp:HOST:PORT, script:NAME ARGUMENT …',
  });
}

/** As parseChecks() reads it. */
export function checkName(check: Check): string {
  switch (check.kind) {
    case 'heartbeat':
    case 'address':
      return check.kind;
    case 'tcp': {
      const { host, port } = check;
      if (host === undefined) return `tcp:${port}`;
      return host.includes(':') ? `tcp:[${host}]:${port}` : `tcp:${host}:${port}`;
    }
    case 'script':
      return `script:${[check.name, ...check.args].join(' ')}`;
  }
}
