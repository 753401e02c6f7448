import { expect } from 'chai';
import { Leases } from '../../../dr-receiver/store/leases.js';
import { id } from './source-double.js';

const ONE = { diskId: id(1), generation: 0, baseCycleId: id(11) };
const OTHER = { diskId: id(2), generation: 0, baseCycleId: id(11) };
const never = (): Promise<void> => new Promise(() => undefined);
const atOnce = (): Promise<void> => Promise.resolve();

async function isPending(promise: Promise<unknown>): Promise<boolean> {
  const mark = Symbol('pending');
  for (let turn = 0; turn < 10; turn++) await Promise.resolve();
  return (await Promise.race([promise, Promise.resolve(mark)])) === mark;
}

describe('leases', () => {
  it('many read at a time, and a change waits until all have let go', async () => {
    const leases = new Leases();
    const first = await leases.read([ONE, OTHER]);
    const second = await leases.read([ONE]);
    expect(leases.readerCount(ONE)).to.equal(2);
    const change = leases.change(ONE, never);
    expect(await isPending(change)).to.equal(true);
    expect([leases.isWanted(ONE), leases.isWanted(OTHER)]).to.deep.equal([true, false]);
    first.release();
    first.release();
    expect(await isPending(change)).to.equal(true);
    second.release();
    const lease = await change;
    expect(lease).not.to.equal(undefined);
    lease?.release();
    expect(leases.isWanted(ONE)).to.equal(false);
  });

  it('a reader waits while a segment is changed or about to be, and gets in behind it', async () => {
    const leases = new Leases();
    const reader = await leases.read([ONE]);
    const change = leases.change(ONE, never);
    const late = leases.read([OTHER, ONE]);
    expect(await isPending(late)).to.equal(true);
    reader.release();
    const lease = await change;
    expect(await isPending(late)).to.equal(true);
    expect(leases.isWanted(ONE)).to.equal(true);
    lease?.release();
    (await late).release();
    expect(leases.readerCount(ONE)).to.equal(0);
  });

  it('a reader that lets go when it is wanted comes after the change, not before', async () => {
    const leases = new Leases();
    const order: string[] = [];
    const reader = await leases.read([ONE]);
    const change = leases.change(ONE, never).then((lease) => {
      order.push('change');
      lease?.release();
    });
    expect(leases.isWanted(ONE)).to.equal(true);
    reader.release();
    const again = leases.read([ONE]).then((lease) => {
      order.push('read');
      lease.release();
    });
    await Promise.all([change, again]);
    expect(order).to.deep.equal(['change', 'read']);
  });

  it('a change that is given up lets the readers in, and nothing is held', async () => {
    const leases = new Leases();
    const reader = await leases.read([ONE]);
    const change = leases.change(ONE, atOnce);
    const late = leases.read([ONE]);
    expect(await change).to.equal(undefined);
    (await late).release();
    reader.release();
    expect(await leases.change(ONE, never)).not.to.equal(undefined);
    expect(await leases.change(ONE, never), 'one change at a time').to.equal(undefined);
    expect(await leases.change(OTHER, never)).not.to.equal(undefined);
  });

  it('watches those who read at a moment, and not those who come later', async () => {
    const leases = new Leases();
    const early = await leases.read([ONE]);
    const haveLetGo = leases.watchReaders(ONE);
    const haveAllLetGo = leases.watchReaders();
    const late = await leases.read([ONE]);
    const other = await leases.read([OTHER]);
    expect([haveLetGo(), haveAllLetGo()]).to.deep.equal([false, false]);
    early.release();
    expect([haveLetGo(), haveAllLetGo()]).to.deep.equal([true, true]);
    late.release();
    other.release();
    expect(leases.watchReaders()()).to.equal(true);
  });
});
