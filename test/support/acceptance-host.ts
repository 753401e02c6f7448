// A lab in memory for the acceptance, whose behaviour can be bent in one place.

import { guid, type Guid } from '../../shared/bytes/index.js';
import { type Clock, systemClock, systemRandom } from '../../shared/clock.js';
import {
  type Acceptance,
  type AcceptancePort,
  acceptHost,
  type GuestWish,
  type Host,
  labPort,
  PROBES,
} from '../../shared/acceptance/index.js';
import { Lab } from '../../shared/hypervisor/lab/index.js';
import { createVhdx } from '../../shared/vhdx/index.js';
import { MemoryFileSystem } from './memory-file.js';

export const OTHER_ID = guid('99999999-0000-4000-8000-000000000001');
const FOLDER = '/host/hvdr-acceptance';

/** A clock that does not wait; what happens meanwhile is the test's. */
class SwiftClock implements Clock {
  #skippedMs = 0;
  meanwhile: () => Promise<void> = () => Promise.resolve();

  now(): number {
    return systemClock.now() + this.#skippedMs;
  }

  monotonic(): number {
    return systemClock.monotonic() + this.#skippedMs;
  }

  async sleep(durationMs: number): Promise<void> {
    this.#skippedMs += durationMs;
    await this.meanwhile();
  }
}

export class AcceptanceHost {
  readonly fs = new MemoryFileSystem();
  readonly clock = new SwiftClock();
  readonly lab: Lab;
  readonly abort = new AbortController();
  guest: GuestWish | undefined;

  private constructor(lab: (host: AcceptanceHost) => Lab) {
    this.lab = lab(this);
  }

  static async make(): Promise<AcceptanceHost> {
    const fs = new MemoryFileSystem();
    await fs.makeFolder('/host');
    const seams = { fs, clock: systemClock, random: systemRandom };
    const lab = await Lab.create('/host/lab', seams);
    return Object.assign(new AcceptanceHost(() => lab), { fs });
  }

  get port(): AcceptancePort {
    return labPort(this.lab, { fs: this.fs, random: systemRandom });
  }

  /** Gives the run a guest, which writes now and then while somebody waits. */
  async withGuest(): Promise<void> {
    const image = '/host/image.vhdx';
    const seams = { fs: this.fs, random: systemRandom };
    await createVhdx(image, { type: 'dynamic', sizeBytes: 8 * 1024 * 1024 }, seams);
    this.guest = { image, generation: 2, address: '192.0.2.77/24', bootMs: 60_000 };
    this.clock.meanwhile = async () => {
      for (const { id, name, powerState } of await this.lab.listVms()) {
        if (!name.startsWith('hvdr-acceptance-guest') || powerState !== 'running') continue;
        await this.lab.guestWrite(id, 0, 3 * 1024 * 1024, Buffer.from('written meanwhile'));
      }
    };
  }

  async run(
    probes: readonly string[],
    bend: { readonly host?: Partial<Host>; readonly port?: Partial<AcceptancePort> } = {},
  ): Promise<Acceptance> {
    return acceptHost(
      {
        host: bent(this.lab, bend.host ?? {}),
        port: { ...this.port, ...bend.port },
        ...{ fs: this.fs, clock: this.clock, random: systemRandom, guest: this.guest },
        ...{ folder: FOLDER, timeoutMs: 60_000, signal: this.abort.signal },
      },
      () => undefined,
      PROBES.filter(({ name }) => probes.length === 0 || probes.includes(name)),
    );
  }

  /** What is left of an acceptance: VMs and files. */
  async left(): Promise<readonly string[]> {
    const vms = (await this.lab.listVms()).map(({ name }) => name);
    return (await this.fs.status(FOLDER)) === undefined ? vms : [...vms, FOLDER];
  }
}

/** The host with some of its methods replaced; what they call of the others is the lab's own. */
function bent(lab: Lab, changed: Partial<Host>): Host {
  return new Proxy<Host>(lab, {
    get: (_target, name) => {
      const own: unknown = Reflect.get(changed, name);
      if (own !== undefined) return own;
      const value: unknown = Reflect.get(lab, name, lab);
      return typeof value === 'function' ? (value.bind(lab) as unknown) : value;
    },
  });
}

/** Ranges, one after the other. */
export async function* rangesOf(
  ...ranges: readonly { readonly start: number; readonly end: number }[]
): AsyncGenerator<{ readonly start: number; readonly end: number }> {
  await Promise.resolve();
  yield* ranges;
}

export type { Guid };
