// Waits for the point of a cycle that runs by itself, as somebody with a viewer's key sees it.

import {
  type ChannelConnection,
  connect,
  controlService,
  loadKey,
  type RestorePoint,
} from '../shared/channel/index.js';
import { type Clock, systemRandom } from '../shared/clock.js';
import { DrError } from '../shared/errors.js';
import { nodeFileSystem } from '../shared/files/index.js';
import { openLog } from '../shared/log.js';
import type { PushTarget } from './replication.js';

const POLL_EVERY_MS = 50;
const PATIENCE_MS = 60_000;
const TRIES = 5;

/** What of a Replication is needed here. */
export interface Watched {
  readonly target: PushTarget;
  readonly viewerKey: string;
  readonly vm: string;
}

export class PointWatch {
  readonly #connection: ChannelConnection;
  readonly #vm: string;
  readonly #clock: Clock;

  private constructor(connection: ChannelConnection, vm: string, clock: Clock) {
    this.#connection = connection;
    this.#vm = vm;
    this.#clock = clock;
  }

  static async open({ target, viewerKey, vm }: Watched, clock: Clock): Promise<PointWatch> {
    const log = await openLog({ destination: { write: () => undefined }, level: 'error', clock });
    const environment = { fs: nodeFileSystem, environment: process.env };
    const key = await loadKey(viewerKey, environment);
    const connection = await connect({ ...target, key, clock, random: systemRandom, log });
    return new PointWatch(connection, vm, clock);
  }

  /**
   * Seconds from the checkpoint to the durable commit of a point that holds exactly `cellCount`
   * changed cells. `change` makes them; when a cycle began in its midst, it is called again.
   * @throws DrError E_TOOL_FAILED when none comes
   */
  async pointOf(cellCount: number, change: () => Promise<void>): Promise<number> {
    for (let attempt = 0; attempt < TRIES; attempt += 1) {
      const known = await this.#newest();
      await change();
      const point = await this.#newerThan(known);
      const cells = point.disks.reduce((sum, disk) => sum + Number(disk.cellCount), 0);
      if (cells === cellCount) {
        return Number(point.committedAtMs - point.consistentAtMs) / 1000;
      }
      // the rest of a divided change must not stand in the next point
      await this.#clock.sleep(PATIENCE_MS / 10);
    }
    throw new DrError('E_TOOL_FAILED', `no cycle of ${TRIES} had the whole change of the guest`);
  }

  close(): Promise<void> {
    return this.#connection.close();
  }

  async #newest(): Promise<RestorePoint | undefined> {
    const { points } = await this.#connection.client(controlService).listPoints({ vm: this.#vm });
    return points.at(-1);
  }

  async #newerThan(known: RestorePoint | undefined): Promise<RestorePoint> {
    const deadline = this.#clock.monotonic() + PATIENCE_MS;
    while (this.#clock.monotonic() < deadline) {
      const newest = await this.#newest();
      if (newest !== undefined && known?.pointId.equals(newest.pointId) !== true) return newest;
      await this.#clock.sleep(POLL_EVERY_MS);
    }
    throw new DrError('E_TOOL_FAILED', `no new point within ${PATIENCE_MS / 1000} s`);
  }
}
