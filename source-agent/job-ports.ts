// The ports of jobs, made from their parameters: the hypervisor of this side, the line to the receiver,
// the folder of the ledgers, one budget of bandwidth. The command line and the jobs of Bacula use it.

import path from 'node:path';
import { type Guid, parseGuid } from '../shared/bytes/index.js';
import {
  connect,
  loadKey,
  loadSecret,
  type PreSharedKey,
  replicationService,
  siteService,
} from '../shared/channel/index.js';
import { DrError } from '../shared/errors.js';
import { openHypervisor, type SourceHypervisor } from '../shared/hypervisor/index.js';
import { clientTls } from '../shared/operator/client-tls.js';
import {
  type ParameterValues,
  TLS_PARAMETERS,
  type TlsParameters,
  wantedConsistency,
  wantedSchedule,
} from '../shared/params/index.js';
import type { Surroundings } from '../shared/surroundings.js';
import type { Job } from './agent.js';
import { wantedRemoteActions } from './attachments.js';
import { Bandwidth, type BandwidthPlan } from './bandwidth.js';
import { pinToStore } from './pinned-store.js';
import { type ConnectReceiver, ReceiverLink } from './receiver-link.js';
import { stateFolder } from './state-folder.js';

export interface JobParameters {
  readonly name: string;
  readonly values: ParameterValues;
  /** Refuse VMs that have points at the receiver already. Default: no. */
  readonly isSeedOnly?: boolean;
  /** Only this one of the VMs that match. Default: all of them. */
  readonly vmId?: Guid;
}

/** Hypervisors and connections, one for each place that jobs name; one budget of bandwidth for all. */
export class Ports {
  readonly #surroundings: Surroundings;
  readonly #given: SourceHypervisor | undefined;
  readonly #hypervisors = new Map<string, SourceHypervisor>();
  readonly #links = new Map<string, ReceiverLink>();
  readonly #bandwidth: Bandwidth;
  /** What the jobs of now use. */
  #used = new Set<SourceHypervisor | ReceiverLink>();
  #replacing = 0;

  /** `hypervisor`: in place of the one that jobs name; whoever gives it closes it. */
  constructor(surroundings: Surroundings, hypervisor?: SourceHypervisor) {
    this.#surroundings = surroundings;
    this.#given = hypervisor;
    this.#bandwidth = new Bandwidth(surroundings.clock, { bytesPerSecond: 0 });
  }

  /** @throws DrError, and then the budget is the former one */
  async jobs(parameters: readonly JobParameters[]): Promise<Job[]> {
    const jobs: Job[] = [];
    for (const job of parameters) jobs.push(await this.#job(job));
    const plan = planOf(parameters);
    if (plan !== undefined) this.#bandwidth.use(plan);
    this.#used = new Set(jobs.flatMap(({ hypervisor, link }) => [hypervisor, link]));
    return jobs;
  }

  /** Closes what no job uses any more, once no cycle of former jobs is under way. */
  async closeUnusedAfter(ended: Promise<void>): Promise<void> {
    this.#replacing++;
    await ended;
    this.#replacing--;
    if (this.#replacing > 0) return;
    await this.#closeUnless((port) => this.#used.has(port));
  }

  async #job({ name, values, isSeedOnly, vmId }: JobParameters): Promise<Job> {
    const { folder } = this.#surroundings;
    // what can be refused without looking at anything comes first
    const link = this.#link(values);
    const hypervisor = await this.#hypervisor(values);
    await this.#checkKeyFile(keyReference(values, folder));
    return {
      name,
      hypervisor,
      link,
      bandwidth: this.#bandwidth,
      stateFolder: await stateFolderOf(values, this.#surroundings),
      vmPattern: values.vm,
      exclude: values.exclude,
      vmId,
      takesRunning: values.online,
      cycle: {
        consistency: wantedConsistency(values),
        timeoutMs: values.timeout * 1000,
        overlap: values.overlap,
        rpoSeconds: values.rpo_seconds,
        maxRestorePoints: values.max_restore_points,
        isSeedOnly,
        retentionGrid: values.retention_grid ?? '',
      },
      cycleCount: values.push_cycles,
      intervalMs: values.push_interval * 1000,
      isAbortingOnError: values.abort_on_error,
      remoteActions: wantedRemoteActions(values),
    };
  }

  /**
   * Reads a key file before the first cycle, so that a daemon does not start that can never send. The
   * connection reads it again, because it may be replaced meanwhile.
   */
  async #checkKeyFile({ file }: KeyReference): Promise<void> {
    if (file === undefined) return;
    const { files: fs, environment } = this.#surroundings;
    await this.#surroundings.keepSecrets();
    await loadKey(file, { fs, environment, log: await this.#surroundings.log() });
  }

  close(): Promise<void> {
    return this.#closeUnless(() => false);
  }

  async #closeUnless(isKept: (port: SourceHypervisor | ReceiverLink) => boolean): Promise<void> {
    for (const [place, link] of this.#links) {
      if (isKept(link)) continue;
      this.#links.delete(place);
      await link.close();
    }
    for (const [place, hypervisor] of this.#hypervisors) {
      if (isKept(hypervisor)) continue;
      this.#hypervisors.delete(place);
      await hypervisor.close();
    }
  }

  async #hypervisor(values: ParameterValues): Promise<SourceHypervisor> {
    if (this.#given !== undefined) return this.#given;
    const name = hypervisorName(values);
    const known = this.#hypervisors.get(name);
    if (known !== undefined) return known;
    const hypervisor = await openSourceHypervisor(values, this.#surroundings);
    this.#hypervisors.set(name, hypervisor);
    return hypervisor;
  }

  #link(values: ParameterValues): ReceiverLink {
    const { dr_host: host, dr_port: port } = values;
    if (host === undefined) {
      throw new DrError('E_PARAMETER', 'dr_host: nothing says where the receiver is', {
        context: { parameter: 'dr_host' },
        hint: 'Give --dr-host HOST.',
      });
    }
    const key = keyReference(values, this.#surroundings.folder);
    const tls = TLS_PARAMETERS.map((parameter) => values[parameter] ?? null);
    const place = JSON.stringify([host, port, key, tls]);
    const known = this.#links.get(place);
    if (known !== undefined) return known;
    const made = new ReceiverLink(this.#connector(host, port, key, values));
    this.#links.set(place, made);
    return made;
  }

  #connector(
    host: string,
    port: number,
    reference: KeyReference,
    wanted: TlsParameters,
  ): ConnectReceiver {
    const { files: fs, environment, clock, random } = this.#surroundings;
    const bare = host.replace(/^\[(.*)\]$/, '$1');
    let loaded: Promise<PreSharedKey> | undefined;
    return async () => {
      const log = await this.#surroundings.log();
      await this.#surroundings.keepSecrets();
      const keys = { fs, environment, log };
      // A passphrase takes long to stretch and cannot change; a file may have been replaced.
      const key =
        reference.file === undefined
          ? await (loaded ??= loadSecret(reference.secret, reference.keyId, keys))
          : await loadKey(reference.file, keys);
      const tls = await clientTls(wanted, this.#surroundings);
      const connection = await connect({ host: bare, port, key, tls, clock, random, log });
      try {
        const client = connection.client(replicationService);
        const site = connection.client(siteService);
        const close = (): Promise<void> => connection.close();
        const { keyId, receiverId } = key;
        if (receiverId === undefined) return { client, site, close };
        const pin = { storeId: receiverId, keyId, place: `${host}:${port}` };
        const pinned = await pinToStore(client, pin, random);
        return { client: pinned, site, pinnedStoreId: parseGuid(receiverId), close };
      } catch (error) {
        await connection.close();
        throw error;
      }
    };
  }
}

/** The one budget of all jobs; undefined: there is no job. @throws DrError E_PARAMETER */
function planOf([first, ...others]: readonly JobParameters[]): BandwidthPlan | undefined {
  if (first === undefined) return undefined;
  for (const parameter of ['bandwidth', 'bandwidth_schedule'] as const) {
    const rate = first.values[parameter];
    const other = others.find(({ values }) => values[parameter] !== rate);
    if (other === undefined) continue;
    const said = other.values[parameter] ?? 'nothing';
    throw new DrError(
      'E_PARAMETER',
      `${parameter}, job ${other.name}: ${said} is not the ${rate ?? 'nothing'} of job ${first.name}`,
      {
        context: { parameter },
        hint: 'All jobs of a source share one budget: give it once, before the sections.',
      },
    );
  }
  const { values } = first;
  return { bytesPerSecond: values.bandwidth, schedule: wantedSchedule(values) };
}

function hypervisorName({ host }: ParameterValues): string {
  const name = host ?? (process.platform === 'win32' ? 'hyperv' : undefined);
  if (name !== undefined) return name;
  throw new DrError('E_PARAMETER', 'host: nothing says whose VMs are meant', {
    context: { parameter: 'host' },
    hint: 'Give --host lab:DIR or --host hyperv.',
  });
}

/** The hypervisor that `host` names; the caller closes it. @throws DrError E_PARAMETER, … */
export async function openSourceHypervisor(
  values: ParameterValues,
  surroundings: Surroundings,
): Promise<SourceHypervisor> {
  const { files: fs, clock, random, folder } = surroundings;
  const name = hypervisorName(values);
  const place = name.startsWith('lab:') ? `lab:${path.resolve(folder, name.slice(4))}` : name;
  return openHypervisor(place, { fs, clock, random, log: await surroundings.log() });
}

/** The folder of ledgers and leases. */
export function stateFolderOf(
  { state_dir: wanted }: ParameterValues,
  { files: fs, random, environment, folder }: Surroundings,
): Promise<string> {
  const { platform } = process;
  const chosen = wanted === undefined ? undefined : path.resolve(folder, wanted);
  return stateFolder(chosen, { fs, random, environment, platform });
}

/** The key that the parameters name. @throws DrError E_PARAMETER, E_KEY_FILE, E_NOT_FOUND */
export async function keyOfParameters(
  values: ParameterValues,
  surroundings: Surroundings,
): Promise<PreSharedKey> {
  const { files: fs, environment, folder } = surroundings;
  const reference = keyReference(values, folder);
  await surroundings.keepSecrets();
  const keys = { fs, environment, log: await surroundings.log() };
  return reference.file === undefined
    ? loadSecret(reference.secret, reference.keyId, keys)
    : loadKey(reference.file, keys);
}

type KeyReference =
  | { readonly file: string }
  | { readonly file?: undefined; readonly secret: string; readonly keyId: string | undefined };

function keyReference(values: ParameterValues, folder: string): KeyReference {
  const { dr_psk: secret, dr_psk_file: file, dr_psk_id: keyId } = values;
  if (file !== undefined) {
    if (file.startsWith('env:')) return { file };
    return { file: path.resolve(folder, file.replace(/^file:/, '')) };
  }
  if (secret === undefined) {
    throw new DrError('E_PARAMETER', 'dr_psk_file: nothing says which key to use', {
      context: { parameter: 'dr_psk_file' },
      hint: 'Give --psk-file FILE; `hvdr psk generate --out FILE` makes one.',
    });
  }
  if (secret.startsWith('file:')) return { file: path.resolve(folder, secret.slice(5)) };
  return { secret, keyId };
}
