// The binding of virtdisk.dll against what is recorded of Windows (hyperv-facts.json). A wrong offset reads a wrong disk,
// and nothing but a real host would show it; so each belief is made wrong in turn, and has to be found out.

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { guid, readGuid, writeGuid } from '../../shared/bytes/index.js';
import { MEMBER_BYTES, type MemberType } from '../../shared/hypervisor/hyperv/native/layouts.js';
import { BELIEFS, checkNative, type Beliefs } from '../support/native-contract.js';
import { FactBook, type Facts } from '../support/powershell-contract/facts.js';

const [facts, added] = ['hyperv-facts', 'added-facts'].map((name) => {
  const path = new URL(`../../../test/contract/${name}.json`, import.meta.url);
  return JSON.parse(readFileSync(fileURLToPath(path), 'utf8')) as Facts;
}) as [Facts, Facts];

/** One belief that is wrong, with what it is. */
type Mutant = readonly [what: string, beliefs: Beliefs];

function* wrongLayouts(): Generator<Mutant> {
  for (const [name, layout] of Object.entries(BELIEFS.layouts)) {
    const put = (change: Partial<typeof layout>): Beliefs => ({
      ...BELIEFS,
      layouts: { ...BELIEFS.layouts, [name]: { ...layout, ...change } },
    });
    for (const by of [-1, 1]) yield [`${name} ${by}`, put({ size: layout.size + by })];
    for (const [member, [offset, type]] of Object.entries(layout.members)) {
      const move = (to: number, as: MemberType): Beliefs =>
        put({ members: { ...layout.members, [member]: [to, as] } });
      for (const by of [-1, 1]) yield [`${name}.${member} ${by}`, move(offset + by, type)];
      for (const other of Object.keys(MEMBER_BYTES) as MemberType[]) {
        if (MEMBER_BYTES[other] === MEMBER_BYTES[type]) continue;
        yield [`${name}.${member} as ${other}`, move(offset, other)];
      }
    }
  }
}

const TYPES = ['uint32_t', 'int32_t', 'uint64_t', 'int64_t', 'str16', 'void *'];

function* wrongSignatures(): Generator<Mutant> {
  for (const [name, [part, result, args]] of Object.entries(BELIEFS.signatures)) {
    const put = (...signature: readonly [string, string, readonly string[]]): Beliefs => ({
      ...BELIEFS,
      signatures: { ...BELIEFS.signatures, [name]: signature },
    });
    for (const other of ['virtdisk', 'kernel', 'security'].filter((key) => key !== part))
      yield [`${name} of ${other}`, put(other, result, args)];
    for (const other of TYPES.filter((type) => type !== result))
      yield [`${name} gives ${other}`, put(part, other, args)];
    yield [`${name} with one more`, put(part, result, [...args, 'uint32_t'])];
    for (const [index, arg] of args.entries()) {
      yield [`${name} without ${index}`, put(part, result, args.toSpliced(index, 1))];
      for (const other of TYPES.filter((type) => type !== arg))
        yield [`${name}: ${index} as ${other}`, put(part, result, args.with(index, other))];
    }
  }
}

function* wrongNumbers(): Generator<Mutant> {
  for (const [name, value] of Object.entries(BELIEFS.constants)) {
    const other = typeof value === 'number' ? value + 1 : `${value.slice(0, -1)}0`;
    yield [name, { ...BELIEFS, constants: { ...BELIEFS.constants, [name]: other } }];
  }
  for (const [index, [code, name]] of BELIEFS.errors.entries())
    yield [name, { ...BELIEFS, errors: BELIEFS.errors.with(index, [code + 1, name]) }];
}

function expectAllFound(book: FactBook, mutants: Iterable<Mutant>, countMin: number): void {
  const all = [...mutants];
  const unnoticed = all.filter(([, beliefs]) => checkNative(beliefs, book).length === 0);
  expect(unnoticed.map(([what]) => what)).to.deep.equal([]);
  expect(all.length).to.be.at.least(countMin);
}

describe('the binding of virtdisk.dll', () => {
  const book = new FactBook(facts, added);

  it('has the sizes and offsets, the signatures and the numbers that are recorded of Windows', () => {
    const findings = checkNative(BELIEFS, book);
    expect(findings, findings.join('\n')).to.deep.equal([]);
  });

  it('is found out when one structure, or the offset of one member, is another by a byte', () => {
    expectAllFound(book, wrongLayouts(), 300);
  });

  it('is found out when a function has one argument more, less, or of another type', () => {
    expectAllFound(book, wrongSignatures(), 500);
  });

  it('is found out when one number is another', () => {
    expectAllFound(book, wrongNumbers(), 65);
  });

  it('lays a GUID out as Windows does', () => {
    const bytes = Buffer.alloc(16);
    const value = guid('00112233-4455-6677-8899-aabbccddeeff');
    writeGuid(bytes, 0, value);
    const part = (name: string): Buffer => {
      const { offset, size } = book.struct('GUID')?.members[name] ?? { offset: 16, size: 0 };
      return bytes.subarray(offset, offset + size);
    };
    expect(part('Data1').readUInt32LE()).to.equal(0x00112233);
    expect(part('Data2').readUInt16LE()).to.equal(0x4455);
    expect(part('Data3').readUInt16LE()).to.equal(0x6677);
    expect(part('Data4').toString('hex')).to.equal('8899aabbccddeeff');
    expect(readGuid(bytes, 0)).to.equal(value);
  });

  it('needs every entry of the facts about calls of Windows', () => {
    const own = new FactBook(facts, added);
    checkNative(BELIEFS, own);
    const unused = [...facts.entries, ...added.entries]
      .filter(({ kind }) => kind.startsWith('win32-'))
      .map(({ kind, name }) => `${kind} ${name}`)
      .filter((key) => !own.asked.has(key));
    expect(unused).to.deep.equal([]);
  });
});
