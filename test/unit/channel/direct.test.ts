// Calls inside one process behave as calls over the wire do, but for the wire.

import { expect } from 'chai';
import {
  type Caller,
  type ControlService,
  connectDirectly,
  controlService,
  type Handlers,
  type StatusRequest,
} from '../../../shared/channel/index.js';
import { DrError } from '../../../shared/errors.js';

const CALLER: Caller = {
  principal: 'host-a',
  keyId: 'k1',
  role: 'operator',
  vmPattern: '*',
  address: '127.0.0.1',
};

const unused = (): never => {
  throw new DrError('E_STATE', 'not part of this test');
};

const handlers: Handlers<ControlService> = {
  status: (request, { caller }) => {
    if (request.vm === 'none') throw new DrError('E_NO_MATCH', `no VM of ${caller.principal}`);
    return Promise.resolve({
      storeId: Buffer.from([1]),
      protections: [],
      nowMs: 5n,
      storeFreeBytes: 0n,
    });
  },
  async *readDisk(request) {
    await Promise.resolve();
    for (let i = 0; i < request.diskIndex; i++) {
      yield {
        part: { $case: 'bytes' as const, value: { offset: BigInt(i), data: Buffer.from([i]) } },
      };
    }
  },
  listPoints: unused,
  operate: unused,
  explainNetwork: unused,
  pinPoint: unused,
  removePoint: unused,
  verify: unused,
  pause: unused,
  collectGarbage: unused,
  seed: unused,
  importDelta: unused,
  compact: unused,
  rebind: unused,
  unhalt: unused,
  clearAlarm: unused,
  statusPages: unused,
  pointPages: unused,
};

describe('connectDirectly', () => {
  const client = connectDirectly(controlService, handlers, CALLER);

  it('hands over copies of messages, decoded as from the wire', async () => {
    const request: StatusRequest = { vm: 'a' };
    const answer = await client.status(request);
    expect(answer.nowMs).to.equal(5n);
    expect(Buffer.from(answer.storeId)).to.deep.equal(Buffer.from([1]));
  });

  it('streams answers', async () => {
    const offsets: bigint[] = [];
    for await (const { part } of client.readDisk({ vm: 'a', point: 'latest', diskIndex: 3 })) {
      if (part?.$case === 'bytes') offsets.push(part.value.offset);
    }
    expect(offsets).to.deep.equal([0n, 1n, 2n]);
  });

  it('passes a refusal on as it is', async () => {
    const failure: unknown = await client.status({ vm: 'none' }).catch((error: unknown) => error);
    expect(failure).to.be.instanceOf(DrError).with.property('code', 'E_NO_MATCH');
  });

  it('ends a stream when the caller cancels', async () => {
    const stop = new AbortController();
    const seen: unknown[] = [];
    const read = async (): Promise<void> => {
      const request = { vm: 'a', point: 'latest', diskIndex: 5 };
      for await (const part of client.readDisk(request, { signal: stop.signal })) {
        seen.push(part);
        stop.abort();
      }
    };
    const failure: unknown = await read().catch((error: unknown) => error);
    expect(failure).to.be.instanceOf(DrError).with.property('code', 'E_CHANNEL');
    expect(seen).to.have.length(1);
  });
});
