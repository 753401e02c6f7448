// One set-up at a time per checkout. The lock is a file that names its owner and the child that
// does the work (npm, tsc): both must be gone before another process may take it over, because a
// killed owner can leave a working child behind.

import { randomUUID } from 'node:crypto';
import {
  closeSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  statSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { cacheFolder } from './checkout.mjs';

const HEARTBEAT_MS = 2000;
/** An owner on another host (a container, a network share) is judged by its heartbeat alone. */
const FOREIGN_STALE_MS = 30_000;
const GUARD_STALE_MS = 10_000;
const POLL_MS = 200;
const NOTE_EVERY_MS = 10_000;

/** Start time of a process in clock ticks, which tells a reused process id; '' where unknown. */
function startOf(pid) {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return text.slice(text.lastIndexOf(')') + 2).split(' ')[19] ?? '';
  } catch {
    return '';
  }
}

function isAlive(worker) {
  if (worker === undefined) return false;
  try {
    process.kill(worker.pid, 0);
  } catch (error) {
    if (error.code === 'ESRCH') return false;
  }
  return startOf(worker.pid) === worker.start;
}

/** What a lock file says, `undefined` when it has gone, `text` as it was read. */
function readLock(path) {
  try {
    const text = readFileSync(path, 'utf8');
    const { mtimeMs } = statSync(path);
    let owner;
    try {
      owner = JSON.parse(text);
    } catch {
      owner = undefined; // damaged by hand or by a full disk; its age decides
    }
    return { text, owner, ageMs: Date.now() - mtimeMs };
  } catch (error) {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  }
}

function isStale({ owner, ageMs }) {
  if (owner === undefined) return ageMs > GUARD_STALE_MS;
  if (owner.host !== hostname()) return ageMs > FOREIGN_STALE_MS;
  return !isAlive(owner.process) && !isAlive(owner.child);
}

/** Removes a stale lock unless it changed meanwhile. A guard file keeps two cleaners apart. */
function removeStale(path, seen) {
  const guard = `${path}.guard`;
  let descriptor;
  try {
    descriptor = openSync(guard, 'wx');
  } catch (error) {
    if (error.code !== 'EEXIST') throw error;
    const age = Date.now() - (statSync(guard, { throwIfNoEntry: false })?.mtimeMs ?? Date.now());
    if (age > GUARD_STALE_MS) unlinkSync(guard);
    return;
  }
  closeSync(descriptor);
  try {
    if (readLock(path)?.text === seen.text) unlinkSync(path);
  } finally {
    unlinkSync(guard);
  }
}

/** Creates the lock with its whole content, or returns false when somebody holds it. */
function tryCreate(path, me) {
  const draft = `${path}.${me.id}`;
  writeFileSync(draft, JSON.stringify(me));
  try {
    linkSync(draft, path);
    return true;
  } catch (error) {
    if (error.code === 'EEXIST') return false;
    throw error;
  } finally {
    unlinkSync(draft);
  }
}

/**
 * Runs `work(lock)` while no other process of this checkout is setting up. `lock.child(pid)` names
 * the process that does the work, `lock.child(undefined)` says that it has ended.
 */
export async function withSetUpLock(note, work) {
  mkdirSync(cacheFolder, { recursive: true });
  const path = join(cacheFolder, 'set-up.lock');
  const me = {
    id: randomUUID(),
    host: hostname(),
    process: { pid: process.pid, start: startOf(process.pid) },
  };
  let notedAt = -Infinity;
  while (!tryCreate(path, me)) {
    const seen = readLock(path);
    if (seen === undefined) continue;
    if (isStale(seen)) {
      removeStale(path, seen);
      continue;
    }
    if (Date.now() - notedAt > NOTE_EVERY_MS) {
      note(`waiting for another set-up of this checkout (process ${seen.owner?.process?.pid})`);
      notedAt = Date.now();
    }
    await sleep(POLL_MS);
  }

  const isMine = () => readLock(path)?.owner?.id === me.id;
  const heartbeat = setInterval(() => {
    try {
      utimesSync(path, new Date(), new Date());
    } catch {
      // the lock was removed by hand; nothing to keep alive
    }
  }, HEARTBEAT_MS);
  heartbeat.unref();
  const release = () => {
    clearInterval(heartbeat);
    if (isMine()) unlinkSync(path);
  };
  const lock = {
    child(pid) {
      const state = pid === undefined ? me : { ...me, child: { pid, start: startOf(pid) } };
      writeFileSync(`${path}.${me.id}`, JSON.stringify(state));
      renameSync(`${path}.${me.id}`, path);
    },
  };
  try {
    return await work(lock);
  } finally {
    release();
  }
}
