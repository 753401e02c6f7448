// Restores of `@vsphere/` and `@proxmox_/` backups (docs/conversion.md): the files of a VM are laid into an
// incoming folder as they come, raw disks as VHDX already; at the end each VM is converted and registered.

import path from 'node:path';
import { type Guid, randomGuid } from '../../shared/bytes/index.js';
import type { Random } from '../../shared/clock.js';
import { DrError } from '../../shared/errors.js';
import type { FileSystem } from '../../shared/files/index.js';
import type { RunTool } from '../../shared/image/index.js';
import type { ParameterValues } from '../../shared/params/index.js';
import type { JobInfo } from '../job-info.js';
import {
  confinedFolder,
  confinedSegments,
  destinationOf,
  type RestoreAnswer,
  type RestoreEntry,
  type RestoreHost,
  type RestoreWork,
} from '../restore/index.js';
import { makeDisks, planConversion, previewOf } from './convert-vm.js';
import { definitionOf } from './definition.js';
import { configurationError } from './foreign-vm.js';
import { IncomingFolder } from './incoming.js';
import { isDirect, rawToVhdx, requireIntakeSpace, storeFile } from './intake.js';
import { type NetworkParameters, planRegistration, registerConverted } from './register.js';

const TAKEN = /\.(vmx|conf|vmdk|qcow2|raw|img|cbt)$/i;
const LEFT_OUT = /\.(nvram|vmsd|vmxf|log|json|manifest|lck|vswp|fw)$/i;

export type ConversionJob = Pick<JobInfo, 'jobId' | 'where' | 'regexWhere'>;
export type ConversionValues = NetworkParameters &
  Pick<ParameterValues, 'new_vm_name' | 'restore_path'>;

export interface ConversionPorts {
  readonly fs: FileSystem;
  readonly random: Random;
  /** Default: the real one. */
  readonly run?: RunTool | undefined;
  /** `restore_roots` of backend.conf; undefined: it does not limit them. */
  readonly roots: readonly string[] | undefined;
  /** The caller closes it. */
  readonly host: () => Promise<RestoreHost>;
  readonly signal: AbortSignal;
  readonly say: (kind: 'info' | 'warning' | 'error', text: string) => void;
}

/** Nothing is written before the first file comes. */
export function openConversion(
  job: ConversionJob,
  values: ConversionValues,
  ports: ConversionPorts,
): RestoreWork {
  return new ConversionRestore(job, values, ports);
}

/** What has come of one VM. */
interface IncomingVm {
  readonly root: string;
  readonly folder: string;
  readonly names: Set<string>;
  /** A file of it failed: it is not converted. */
  isBroken: boolean;
}

class ConversionRestore implements RestoreWork {
  readonly #job: ConversionJob;
  readonly #values: ConversionValues;
  readonly #ports: ConversionPorts;
  readonly #incoming = new Map<string, IncomingFolder>();
  readonly #vms = new Map<string, IncomingVm>();
  #open:
    { readonly vm: IncomingVm; readonly entry: RestoreEntry; readonly name: string } | undefined;

  constructor(job: ConversionJob, values: ConversionValues, ports: ConversionPorts) {
    this.#job = job;
    this.#values = values;
    this.#ports = ports;
  }

  object(): Promise<void> {
    return Promise.resolve();
  }

  async begin(entry: RestoreEntry): Promise<RestoreAnswer> {
    this.#open = undefined;
    const segments = confinedSegments(entry.path);
    const [vmName = ''] = segments;
    const name = segments.at(-1) ?? '';
    if (entry.kind !== 'file' || segments.length < 2) return 'skip';
    if (LEFT_OUT.test(name) || segments.includes('.meta')) return 'skip';
    if (!TAKEN.test(name) && /\.[A-Za-z]\w{0,7}$/.test(name)) {
      this.#ports.say('info', `${entry.path} is no part of a VM that can be converted; left out`);
      return 'skip';
    }
    const vm = await this.#vmOf(entry, vmName);
    if (vm.names.has(name.toLowerCase())) {
      vm.isBroken = true;
      throw configurationError(entry.path, 'comes for the second time, from another folder');
    }
    vm.names.add(name.toLowerCase());
    // it would take the room of the others, and be removed in the end
    if (vm.isBroken) return 'skip';
    try {
      await requireIntakeSpace(path.join(vm.folder, name), entry.sizeBytes, this.#ports);
    } catch (error) {
      vm.isBroken = true;
      throw error;
    }
    this.#open = { vm, entry, name };
    return 'take';
  }

  async data(content: AsyncIterable<Buffer>): Promise<void> {
    const open = this.#open;
    if (open === undefined) throw new Error('bytes belong to a file that was begun');
    const { vm, entry, name } = open;
    const file = path.join(vm.folder, name);
    try {
      const { sizeBytes } = entry;
      if (isDirect(name, sizeBytes))
        await rawToVhdx(`${file}.vhdx`, sizeBytes, content, this.#ports);
      else await storeFile(file, content, this.#ports);
    } catch (error) {
      vm.isBroken = true;
      throw error;
    }
  }

  endFile(): Promise<void> {
    this.#open = undefined;
    return Promise.resolve();
  }

  async finish(): Promise<void> {
    const failures: DrError[] = [];
    try {
      for (const [name, vm] of this.#vms) {
        try {
          await this.#convert(name, vm);
        } catch (error) {
          if (!(error instanceof DrError)) throw error;
          failures.push(error);
          this.#ports.say('error', `${name} was not converted: ${error.line}`);
        }
      }
    } finally {
      await this.abandon();
    }
    const [first] = failures;
    if (first !== undefined) throw first;
    if (this.#vms.size === 0) {
      throw new DrError('E_NO_MATCH', 'no VM was among the files of this job', {
        hint: 'Select the configuration (.vmx, NNN.conf) and the disks of a VM.',
      });
    }
  }

  async abandon(): Promise<void> {
    const all = [...this.#incoming.values()];
    this.#incoming.clear();
    for (const folder of all) await folder.remove();
  }

  async #vmOf(entry: RestoreEntry, vmName: string): Promise<IncomingVm> {
    const known = this.#vms.get(vmName);
    if (known !== undefined) return known;
    if (this.#vms.size > 0 && this.#values.new_vm_name !== undefined) {
      throw new DrError('E_PARAMETER', 'new_vm_name names one VM, and files of two are selected', {
        context: { parameter: 'new_vm_name' },
        hint: 'Restore one VM at a time, or leave new_vm_name out.',
      });
    }
    const { fs, random, roots } = this.#ports;
    const { root, limits } = await this.#root(entry);
    const real = await confinedFolder(fs, root, [], limits ? roots : undefined);
    let incoming = this.#incoming.get(real);
    if (incoming === undefined) {
      incoming = await IncomingFolder.make(real, this.#job.jobId, { fs, random });
      this.#incoming.set(real, incoming);
    }
    const folder = path.join(incoming.path, `vm-${this.#vms.size}`);
    await fs.makeFolder(folder);
    const vm = { root: real, folder, names: new Set<string>(), isBroken: false };
    this.#vms.set(vmName, vm);
    return vm;
  }

  /** Roots limit what the job asks for, not where the host keeps its VMs. */
  async #root(entry: RestoreEntry): Promise<{ root: string; limits: boolean }> {
    const { where, regexWhere } = this.#job;
    const wish = { restorePath: this.#values.restore_path, where, regexWhere };
    const destination = destinationOf(entry, { ...wish, roots: this.#ports.roots }, path);
    if (destination.kind === 'folder') return { root: destination.folder, limits: true };
    const host = await this.#ports.host();
    const name = `restore-${this.#job.jobId}`;
    return { root: path.join(await host.defaultVmFolder(), name), limits: false };
  }

  async #convert(name: string, vm: IncomingVm): Promise<void> {
    if (vm.isBroken) {
      throw new DrError('E_PARTIAL', `a file of ${name} could not be taken`, {
        done: 'no VM was made of it',
      });
    }
    const { random, signal, say } = this.#ports;
    const newName = this.#values.new_vm_name;
    const plan = await planConversion(
      { from: vm.folder, outFolder: vm.root, newName, isConsuming: true },
      this.#ports,
    );
    const host = await this.#ports.host();
    // what is refused is refused before the disks are made
    const adapters = await planRegistration(host, previewOf(plan), this.#values);
    const disks = await makeDisks(plan, this.#ports, { signal });
    const newGuid = (): Guid => randomGuid(random);
    const definition = definitionOf(plan.foreign, disks, { name: plan.name, newGuid });
    const vmId = await registerConverted(host, definition, adapters, { random });
    say(
      'info',
      `${plan.name} is registered as ${vmId}: generation ${definition.generation}, ${disks.length} disk(s) in ${plan.folder}`,
    );
    for (const note of plan.foreign.notes) say('info', `${plan.name}: ${note}`);
  }
}
