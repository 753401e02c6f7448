// `hvdr network explain` and `hvdr reip explain`: what would become of the adapters of a VM, and by which
// rule. The receiver plans it, by the same plan that it would carry out; nothing is changed.

import { type Command, Option } from 'commander';
import { guidFromWire } from '../shared/bytes/index.js';
import type {
  AdapterNetwork,
  ExplainedAdapter,
  ExplainNetworkResponse,
  NetworkRefusal,
} from '../shared/channel/index.js';
import { DrError, type ErrorCode, isErrorCode } from '../shared/errors.js';
import type { ParameterName } from '../shared/params/index.js';
import { addParameterOptions } from './agent-options.js';
import type { CliContext } from './context.js';
import { parametersGiven } from './operate.js';
import type { JsonObject } from '../shared/json.js';
import { type AccessFlags, withAccess, withAccessOptions } from './receiver-connection.js';

const PURPOSES = ['failover', 'test', 'failback', 'reprotect'];
const SWITCHES: readonly ParameterName[] = [
  'network_map',
  'unmapped',
  'test_network',
  'mac_policy',
];
const RULES: readonly ParameterName[] = ['reip_rules', 'reip_rules_back'];
const ALL = [...SWITCHES, ...RULES];
const ABOUT_SWITCHES: readonly string[] = ['E_NET_UNMAPPED', 'E_NOT_ISOLATED'];

interface Flags extends AccessFlags {
  readonly purpose: string;
  readonly point?: string;
  readonly host?: string;
}

type Subject = 'network' | 'reip';

const TEXTS: Readonly<
  Record<Subject, { readonly summary: string; readonly what: string; readonly example: string }>
> = {
  network: {
    summary: 'which switch the adapters of a VM would be on, and why',
    what: 'Switch, VLAN and MAC address of each adapter',
    example: `hvdr network explain SQL01 --network-map 'LAN=DR-LAN,*='`,
  },
  reip: {
    summary: 'which addresses a guest would have, and by which rule',
    what: 'Addresses, gateways and DNS servers of each adapter',
    example: `hvdr reip explain SQL01 --reip-rules 'SQL*:10.1.0.*>10.9.0.*/24/10.9.0.1'`,
  },
};

export function registerNetworkExplain(program: Command, context: CliContext): void {
  for (const subject of ['network', 'reip'] as const) {
    const { summary, what, example } = TEXTS[subject];
    const group = program.command(subject).summary(summary).description(`${what}, explained.`);
    const command = group
      .command('explain')
      .summary(summary)
      .description(
        `${what} after a failover, a test, or on the way back, with the rule that holds and why\n` +
          'others do not. Nothing is changed. Ends with the code of the first refusal when it could not be\n' +
          'done so.',
      )
      .argument('<vm>', 'name or id of the VM')
      .addOption(
        new Option('--purpose <purpose>', 'what it would be for')
          .choices(PURPOSES)
          .default('failover'),
      )
      .option('--point <point>', 'the restore point whose adapters are meant (default: latest)')
      .option('--host <host>', 'with --store: the hypervisor of the DR site');
    withAccessOptions(addParameterOptions(command, ALL))
      .addHelpText('after', `\nExample:\n  ${example} --dr-host dr1 --psk-file viewer.psk\n`)
      .action((vm: string, flags: Flags) =>
        explain(context, subject, { vm, flags, parameters: parametersGiven(command, ALL) }),
      );
    group.addHelpText('after', `\nExample:\n  ${example} --dr-host dr1 --psk-file viewer.psk\n`);
  }
}

interface Asked {
  readonly vm: string;
  readonly flags: Flags;
  readonly parameters: Record<string, string>;
}

async function explain(context: CliContext, subject: Subject, asked: Asked): Promise<void> {
  const { vm, flags, parameters } = asked;
  const { purpose, point = '', store, host } = flags;
  const access = { ...flags, siteHost: store === undefined ? undefined : host };
  const answer = await withAccess(context, access, 'read', ({ control }) =>
    control.explainNetwork({ vm, point, purpose, parameters }),
  );
  // who asks for addresses alone is not told that no map was given
  const isOfMap = 'network_map' in parameters || 'test_network' in parameters;
  const refusals = answer.refusals.filter(
    ({ code }) => subject === 'network' || isOfMap || !ABOUT_SWITCHES.includes(code),
  );
  const { output } = context;
  const [first] = refusals;
  if (first !== undefined) output.exitCode = new DrError(codeOf(first), first.message).exitCode;
  output.result(documentOf(answer, refusals, purpose), () =>
    textOf(subject, answer, refusals, purpose),
  );
}

function codeOf({ code }: NetworkRefusal): ErrorCode {
  return isErrorCode(code) ? code : 'E_STATE';
}

function documentOf(
  answer: ExplainNetworkResponse,
  refusals: readonly NetworkRefusal[],
  purpose: string,
): JsonObject {
  const { vmName, host, notes, networkMap, reipRules } = answer;
  return {
    vm: vmName,
    point: guidFromWire(answer.pointId) ?? null,
    ...{ purpose, host },
    adapters: answer.adapters.map((adapter, index) => adapterDocument(adapter, index)),
    refusals: refusals.map(({ code, message, hint, details }) => ({
      ...{ code, message, hint },
      ...Object.fromEntries(Object.entries(details)),
    })),
    notes,
    ...(purpose === 'reprotect' ? { networkMap, reipRules } : {}),
  };
}

function adapterDocument(adapter: ExplainedAdapter, index: number): JsonObject {
  const { name, before, after, macPolicy, because, addresses } = adapter;
  return {
    nic: index + 1,
    ...{ name, macPolicy },
    before: before === undefined ? null : networkDocument(before),
    after: after === undefined ? null : networkDocument(after),
    isAddressUnchanged: after?.isUnchanged ?? true,
    addresses: addresses.map(({ from, to, isByRule }) => ({
      ...{ from: from === '' ? null : from, to, isByRule },
    })),
    because,
  };
}

function networkDocument({
  mac,
  switchName,
  vlan,
  isDhcp,
  addresses,
  gateways,
  dnsServers,
}: AdapterNetwork): JsonObject {
  return {
    mac: mac === '' ? null : mac,
    switch: switchName === '' ? null : switchName,
    vlan: vlan === 0 ? null : vlan,
    ...{ isDhcp, addresses, gateways, dnsServers },
  };
}

function textOf(
  subject: Subject,
  answer: ExplainNetworkResponse,
  refusals: readonly NetworkRefusal[],
  purpose: string,
): string {
  const { vmName, host, adapters, notes, networkMap, reipRules } = answer;
  const where = purpose === 'failover' || purpose === 'test' ? `at ${host}` : 'at the primary';
  const back = subject === 'network' ? `network_map ${networkMap}` : `reip_rules ${reipRules}`;
  return [
    `${vmName}, ${purpose}, ${where}`,
    ...adapters.flatMap((adapter, index) => adapterLines(subject, adapter, index)),
    ...(purpose === 'reprotect' ? [`way back: ${back}`] : []),
    ...notes.map((note) => `note: ${note}`),
    ...refusals.map(({ code, message, hint }) => `refused: ${code}: ${message}; ${hint}`),
  ].join('\n');
}

function adapterLines(subject: Subject, adapter: ExplainedAdapter, index: number): string[] {
  const { name, before, after, macPolicy, because } = adapter;
  const textFor = subject === 'network' ? switchText : addressText;
  const was = before === undefined ? 'not known' : textFor(before);
  const will = after === undefined ? 'not known' : textFor(after);
  const isKept = subject === 'reip' && after?.isUnchanged === true;
  const mac = subject === 'network' ? [`MAC ${macText(macPolicy, after?.mac ?? '')}`] : [];
  return [
    `adapter ${index + 1} (${name}): ${was} → ${isKept ? 'as the guest has it' : will}`,
    ...[...mac, ...because].map((line) => `    ${line}`),
  ];
}

function macText(policy: string, mac: string): string {
  return policy === 'keep' ? `${mac} is kept` : 'is a new one';
}

function switchText({ switchName, vlan }: AdapterNetwork): string {
  if (switchName === '') return 'not connected';
  return vlan === 0 ? switchName : `${switchName} VLAN ${vlan}`;
}

function addressText({ isDhcp, addresses, gateways, dnsServers }: AdapterNetwork): string {
  const parts = [
    isDhcp ? 'DHCP' : addresses.length === 0 ? 'no address' : addresses.join(' '),
    ...(gateways.length === 0 ? [] : [`gateway ${gateways.join(' ')}`]),
    ...(dnsServers.length === 0 ? [] : [`DNS ${dnsServers.join(' ')}`]),
  ];
  return parts.join(', ');
}
