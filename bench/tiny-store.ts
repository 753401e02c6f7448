// A store with many tiny points, made by the receiver's own code in this process. While it is made
// nothing is flushed: the power does not go here, and the store is synced as a whole before it is used.

import { mkdir } from 'node:fs/promises';
import { type Caller, connectDirectly, replicationService } from '../shared/channel/index.js';
import { systemClock, systemRandom } from '../shared/clock.js';
import { type BlockFile, type FileSystem, nodeFileSystem } from '../shared/files/index.js';
import { silentLog } from '../shared/log.js';
import { Receiver, replicationHandlers } from '../dr-receiver/index.js';
import { TinySource, TinyVm } from './tiny-source.js';

const AT_ONCE = 4;

const BUILDER: Caller = {
  principal: 'bench',
  keyId: 'none',
  role: 'source',
  vmPattern: '*',
  address: 'local',
};

const nothing = (): Promise<void> => Promise.resolve();

const unflushed: FileSystem = {
  ...nodeFileSystem,
  flushFolder: nothing,
  makeFolder: async (path) => {
    await mkdir(path, { recursive: true, mode: 0o700 });
  },
  open: async (path, options): Promise<BlockFile> => {
    const file = await nodeFileSystem.open(path, { ...options, isDirect: false });
    return {
      path,
      read: (position, target) => file.read(position, target),
      write: (position, source) => file.write(position, source),
      size: () => file.size(),
      truncate: (sizeBytes) => file.truncate(sizeBytes),
      reserve: (sizeBytes) => file.reserve(sizeBytes),
      flush: nothing,
      nextData: (position) => file.nextData(position),
      close: () => file.close(),
    };
  },
};

/** Makes a store of `vmCount` VMs with `pointCount` points each, all of them listed. */
export async function makeTinyStore(
  storeFolder: string,
  vmCount: number,
  pointCount: number,
): Promise<TinyVm[]> {
  const receiver = await Receiver.open({
    ...{ fs: unflushed, clock: systemClock, random: systemRandom, log: silentLog, storeFolder },
  });
  const handlers = replicationHandlers(receiver);
  const source = new TinySource(connectDirectly(replicationService, handlers, BUILDER));
  const vms = Array.from({ length: vmCount }, (_, index) => new TinyVm(`VM${index + 1}`));
  const waiting = [...vms];
  const worker = async (): Promise<void> => {
    for (let vm = waiting.pop(); vm !== undefined; vm = waiting.pop()) {
      for (let count = 0; count < pointCount; count++) await source.commit(vm, pointCount);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  await receiver.close();
  return vms;
}
