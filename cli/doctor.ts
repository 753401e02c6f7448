// `hvdr doctor`: is this machine fit for its role, and how is what is missing mended? Each check says
// ok, warn or fail in one line; a warn costs comfort, a fail would stop the role's work. What is
// checked follows from the options: a lab or host makes it a source, a store makes it a receiver.

import path from 'node:path';
import zlib from 'node:zlib';
import type { Command } from 'commander';
import { guidToWire, randomGuid } from '../shared/bytes/index.js';
import {
  type ChannelConnection,
  connect,
  controlService,
  loadKey,
  loadKeyRing,
  type PreSharedKey,
  replicationService,
} from '../shared/channel/index.js';
import type { Random } from '../shared/clock.js';
import { DrError } from '../shared/errors.js';
import { openHypervisor } from '../shared/hypervisor/index.js';
import { silentLog } from '../shared/log.js';
import { replicaPort } from '../shared/operator/replica.js';
import { type ParameterValues, resolveParameters } from '../shared/params/index.js';
import { connectTcp } from '../shared/probe/index.js';
import { pinToStore } from '../source-agent/index.js';
import { allPages } from '../shared/operator/receiver-access.js';
import { addParameterOptions, givenOf } from './agent-options.js';
import type { CliContext } from './context.js';
import { type DeepFlags, examineDeeply } from './doctor-deep.js';
import { examineBaculaConfig } from './doctor-bacula.js';
import { examineFileDaemon } from './doctor-fd.js';
import { examineReplicas, examineReplicaServer } from './doctor-replica.js';
import { examineVms } from './doctor-vms.js';
import { findProgram } from './find-program.js';
import { fail, type Finding, ok, type Verdict, warn } from './finding.js';
import { clientTlsOfFlags, type TlsFlags, withTlsOptions } from './tls.js';

const EXIT_FAILED = 1;
const EXIT_WARNINGS = 3;
const OLDEST_NODE_MAJOR = 24;

/** What tells of Hyper-V Replica. */
const REPLICA_PARAMETERS = ['rpo_seconds', 'hvr_server', 'hvr_port', 'hvr_authentication'] as const;
const CONNECT_MS = 10_000;

interface DoctorFlags extends TlsFlags, DeepFlags {
  readonly deep?: true;
  readonly stateDir?: string;
  readonly store?: string;
  readonly drHost?: string;
  readonly drPort: string;
  readonly pskFile?: readonly string[];
  readonly baculaConfig?: readonly string[];
  readonly fdConfig?: string | true;
}

export function registerDoctor(program: Command, context: CliContext): void {
  const command = program
    .command('doctor')
    .summary('check this machine for its role')
    .description(
      'Checks what a role needs and says how to mend what is missing. Nothing is changed; a folder\n' +
        'that is named is tried with a small file, which is removed again. --deep makes VMs of its own.\n' +
        'Ends with 0 when all is well, 3 with warnings, 1 when something would stop the work.',
    )
    .option('--host <host>', 'check as a source: lab:DIR or hyperv')
    .option('--state-dir <dir>', "check the source agent's folder of ledgers")
    .option('--store <dir>', 'check as a DR receiver with this store')
    .option('--psk-file <file...>', 'check key files or folders of them')
    .option('--bacula-config <file...>', "check the Plugin lines of a Bacula Director's files")
    .option('--fd-config [file]', 'check the plugins of the File Daemon with this file')
    .option('--dr-host <host>', 'check that the receiver there answers and takes the key')
    .option('--dr-port <port>', "the receiver's port", '9847')
    .option(
      '--deep',
      'prove on small VMs of its own that the host does what this product relies on; they are removed again',
    )
    .option(
      '--deep-folder <dir>',
      "with --deep: where their disks are (default: the host's own folder)",
    )
    .option('--probe <name...>', 'with --deep: only these')
    .option('--guest-image <vhdx>', 'with --deep: a guest to run a copy of, with two adapters')
    .option('--guest-generation <1|2>', 'its generation', '2')
    .option('--guest-address <address>', 'address that it is given', '192.0.2.77/24')
    .option('--guest-boot <seconds>', 'how long it takes to start and to stop', '600')
    .option('--report <file>', 'with --deep: write the report there, .json or .txt');
  withTlsOptions(addParameterOptions(command, REPLICA_PARAMETERS))
    .addHelpText(
      'after',
      '\nExamples:\n' +
        '  hvdr doctor\n' +
        '  hvdr doctor --host lab:primary --psk-file keys/primary.psk --dr-host dr.example\n' +
        '  hvdr doctor --store /srv/dr-store --psk-file keys\n' +
        '  hvdr doctor --bacula-config /etc/bacula/bacula-dir.conf\n' +
        '  hvdr doctor --fd-config /opt/bacula/etc/bacula-fd.conf\n' +
        '  hvdr doctor --host hyperv --hvr-server hv2.example\n' +
        '  hvdr doctor --deep --host hyperv --report acceptance.json',
    )
    .action(async (flags: DoctorFlags) => {
      if (flags.deep === true) {
        await examineDeeply(context, flags);
        return;
      }
      const { values } = resolveParameters(givenOf(command, REPLICA_PARAMETERS));
      const findings = await new Doctor(context, flags, values).examine();
      report(context, findings);
    });
}

class Doctor {
  readonly #context: CliContext;
  readonly #flags: DoctorFlags;
  readonly #values: ParameterValues;

  constructor(context: CliContext, flags: DoctorFlags, values: ParameterValues) {
    this.#context = context;
    this.#flags = flags;
    this.#values = values;
  }

  async examine(): Promise<Finding[]> {
    const { host, stateDir, store, pskFile, drHost } = this.#flags;
    if (pskFile !== undefined) await this.#context.keepSecrets();
    const findings = [...this.#runtime(), this.#foreignImages()];
    if (host !== undefined) findings.push(...(await this.#hypervisor(host)));
    if (this.#values.hvr_server !== undefined) {
      const address = { host: this.#values.hvr_server, port: replicaPort(this.#values) };
      const signal = AbortSignal.timeout(CONNECT_MS);
      findings.push(await examineReplicaServer(address, connectTcp, signal));
    }
    if (stateDir !== undefined) findings.push(await this.#folder('state folder', stateDir));
    if (store !== undefined) findings.push(await this.#folder('store', store));
    for (const file of pskFile ?? []) findings.push(await this.#key(file));
    for (const file of this.#flags.baculaConfig ?? []) {
      findings.push(...(await examineBaculaConfig(file, this.#context)));
    }
    const { fdConfig } = this.#flags;
    if (fdConfig !== undefined)
      findings.push(...(await examineFileDaemon(fdConfig, this.#context)));
    if (drHost !== undefined) findings.push(await this.#receiver(drHost));
    return findings;
  }

  #runtime(): Finding[] {
    const { node } = process.versions;
    const isNew = Number(node.split('.')[0]) >= OLDEST_NODE_MAJOR;
    const runtime = isNew
      ? ok('runtime', `Node ${node} on ${process.platform} ${process.arch}`)
      : fail('runtime', `Node ${node} is too old`, `use Node ${OLDEST_NODE_MAJOR} or newer`);
    const packed = zlib.zstdCompressSync(Buffer.alloc(4096));
    const isSound = zlib.zstdDecompressSync(packed).equals(Buffer.alloc(4096));
    const zstd = isSound
      ? ok('compression', 'zstd works')
      : fail('compression', 'zstd gives back other bytes', 'install another build of Node');
    return [runtime, zstd];
  }

  #foreignImages(): Finding {
    const found = findProgram(this.#context, 'qemu-img');
    if (found !== undefined) return ok('foreign images', `qemu-img is ${found}`);
    return warn(
      'foreign images',
      'qemu-img is not installed, so qcow2 and VMDK cannot be converted here',
      'Debian: apt-get install qemu-utils; not needed for replication',
    );
  }

  async #hypervisor(host: string): Promise<Finding[]> {
    const more: Finding[] = [];
    const finding = await this.#attempt('hypervisor', async () => {
      const { files: fs, clock, random, folder } = this.#context;
      const seams = { fs, clock, random, log: silentLog };
      const hypervisor = await openHypervisor(absoluteHost(host, folder), seams);
      try {
        const wish = { rpoSeconds: this.#values.rpo_seconds, nowMs: clock.now() };
        more.push(...(await examineReplicas(hypervisor, wish)));
        const [finding, ...others] = await examineVms(hypervisor, host);
        more.push(...others);
        return finding;
      } finally {
        await hypervisor.close();
      }
    });
    return [finding, ...more];
  }

  /** Writes, flushes, renames and removes a file: everything that the durable state relies on. */
  async #folder(check: string, name: string): Promise<Finding> {
    return this.#attempt(check, async () => {
      const { files: fs, clock, folder } = this.#context;
      const place = path.resolve(folder, name);
      if ((await fs.status(place)) === undefined) {
        return warn(check, `${name} is not there yet`, 'it is made at the first use');
      }
      const trial = path.join(place, `.doctor-${process.pid}`);
      const startedAt = clock.monotonic();
      const file = await fs.open(trial, { mode: 'create' });
      try {
        try {
          await file.write(0, Buffer.alloc(4096, 1));
          await file.flush();
          await expectLocked(() => fs.open(trial, { mode: 'write' }));
        } finally {
          await file.close();
        }
        await fs.rename(trial, `${trial}.renamed`);
        await fs.flushFolder(place);
      } finally {
        await fs.remove(trial);
        await fs.remove(`${trial}.renamed`);
      }
      const took = (clock.monotonic() - startedAt).toFixed(1);
      return ok(check, `${name} can be written, flushed and locked; durable in ${took} ms`);
    });
  }

  async #key(file: string): Promise<Finding> {
    return this.#attempt(`key ${file}`, async () => {
      const { files: fs, environment, folder } = this.#context;
      const place = path.resolve(folder, file);
      const ring = await loadKeyRing([place], { fs, environment });
      const keys = ring.keys.map(({ keyId, role, principal }) => `${keyId} (${role} ${principal})`);
      return ok(`key ${file}`, keys.join(', '));
    });
  }

  async #receiver(host: string): Promise<Finding> {
    return this.#attempt('receiver', async () => {
      const { drPort, pskFile } = this.#flags;
      const [reference] = pskFile ?? [];
      if (reference === undefined) {
        return fail('receiver', 'no key was named', 'add `--psk-file FILE`');
      }
      const { files: fs, environment, folder, clock, random } = this.#context;
      const key = await loadKey(path.resolve(folder, reference), { fs, environment });
      const startedAt = clock.monotonic();
      const tls = await clientTlsOfFlags(this.#flags, this.#context);
      const connection = await connect({
        ...{ host, port: Number(drPort), key, tls, clock, random, log: silentLog },
      });
      try {
        await askSomething(connection, key, `${host}:${drPort}`, random);
      } finally {
        await connection.close();
      }
      const took = (clock.monotonic() - startedAt).toFixed(0);
      return ok('receiver', `${host}:${drPort} takes the key; first answer in ${took} ms`);
    });
  }

  async #attempt(check: string, work: () => Promise<Finding>): Promise<Finding> {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof DrError)) throw error;
      return fail(check, `${error.code}: ${error.message}`, error.hint);
    }
  }
}

/** `lab:DIR` with the folder taken from the caller's. */
function absoluteHost(host: string, folder: string): string {
  return host.startsWith('lab:') ? `lab:${path.resolve(folder, host.slice(4))}` : host;
}

/** A session stands only when a call has been answered; which one a key may make depends on its role. */
async function askSomething(
  connection: ChannelConnection,
  { role, keyId, receiverId }: PreSharedKey,
  place: string,
  random: Random,
): Promise<void> {
  if (role !== 'source') {
    const pages = connection.client(controlService).statusPages({ vm: '*' });
    await allPages(
      pages,
      ({ page }) => page,
      () => [],
    );
    return;
  }
  try {
    const client = connection.client(replicationService);
    if (receiverId === undefined) {
      await client.describe({ vmId: guidToWire(randomGuid(random)), vmName: 'doctor' });
    } else {
      await pinToStore(client, { storeId: receiverId, keyId, place }, random);
    }
  } catch (error) {
    // nobody protects this id, and hearing so is an answer
    if (!(error instanceof DrError) || error.code !== 'E_NOT_PROTECTED') throw error;
  }
}

async function expectLocked(open: () => Promise<{ close(): Promise<void> }>): Promise<void> {
  try {
    await (await open()).close();
  } catch (error) {
    if (error instanceof DrError && error.code === 'E_LOCKED') return;
    throw error;
  }
  throw new DrError('E_IO', 'the volume keeps no locks, so two programs could write at once', {
    hint: 'Use a local volume for state and store.',
  });
}

function report({ output }: CliContext, findings: readonly Finding[]): void {
  const has = (verdict: Verdict): boolean =>
    findings.some((finding) => finding.verdict === verdict);
  if (has('fail')) output.exitCode = EXIT_FAILED;
  else if (has('warn')) output.exitCode = EXIT_WARNINGS;
  output.result({ findings: findings.map((finding) => ({ ...finding })) }, () =>
    findings
      .flatMap(({ check, verdict, detail, remedy }) => [
        `${verdict.padEnd(5)} ${check}: ${detail}`,
        ...(remedy === '' ? [] : [`      → ${remedy}`]),
      ])
      .join('\n'),
  );
}
