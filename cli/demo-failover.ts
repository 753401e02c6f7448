// What failover does in the demo: a VM moves to the DR site and back without losing a byte, and another one
// is brought up there after its primary was lost, is protected towards what came back of it, and goes home.
// At each station the guest's bytes are kept in a file and compared with what they have to be.

import { DR_LAB, type DemoSites, type Guest, LAB, type PushedVm, STORE } from './demo-sites.js';
import { formatSize } from '../shared/sizes.js';

const MOVED = 'MOVE01';
const LOST = 'LOST01';
const DISK = '16M';
/** Exit code of a start that a fence hinders. */
const FENCED = 25;

/** Test, planned move, work at the DR site, and the way home. */
export async function thereAndBack(sites: DemoSites): Promise<void> {
  const { report } = sites;
  const primary: Guest = { lab: LAB, vm: MOVED };
  const remote: Guest = { lab: DR_LAB, vm: MOVED };
  report.say('chapter', `${MOVED} moves to the DR site and back`);
  await firstCopy(sites, primary);
  await drill(sites, primary);

  await writes(sites, primary, 12, 31);
  await sites.failover('planned', MOVED, ...sites.atPrimary());
  const left = await sites.keepBytes(primary, 'left-primary');
  const arrived = await sites.keepBytes(remote, 'arrived-at-dr');
  report.mark('wire', '── the last changes ──▶');
  report.mark('dr', `${MOVED} runs`);
  sites.judgeSame(`${MOVED} at the DR site is what it was when its primary stopped`, left, arrived);
  await notStarted(sites, primary, `its primary does not start ${MOVED} meanwhile`);

  await workAtDr(sites, remote);
  await home(sites, primary, remote);
}

/** Writes, discards and a checkpoint of a user: what a VM lives through wherever it runs. */
async function workAtDr(sites: DemoSites, guest: Guest): Promise<void> {
  await writes(sites, guest, 9, 41);
  await sites.hvdr('lab', 'checkpoint', guest.lab, guest.vm, 'add', 'before-update');
  await writes(sites, guest, 5, 42);
  await sites.hvdr('lab', 'write', guest.lab, guest.vm, '--disk', '0', '--zero', '4M,1M');
  sites.report.mark('dr', 'guest writes, discards; a checkpoint');
}

/** Everything that was written at the DR site comes home, and the DR site makes a point of it. */
async function home(sites: DemoSites, primary: Guest, remote: Guest): Promise<void> {
  const { report } = sites;
  await sites.failover('failback', primary.vm, '--stage', 'sync', ...sites.atPrimary());
  report.mark('wire', '◀── what the DR site wrote ──');
  await writes(sites, remote, 3, 43);
  const last = await sites.keepBytes(remote, 'last-at-dr');
  await sites.failover('failback', primary.vm, ...sites.atPrimary());
  report.mark('primary', `${primary.vm} runs again`);
  const returned = await sites.keepBytes(primary, 'returned');
  sites.judgeSame(`${primary.vm} is home with all that was written at the DR site`, last, returned);
  const { state } = await sites.failover('permanent', primary.vm, '--yes', ...sites.atPrimary());
  report.judge({
    what: `${primary.vm} is protected again`,
    command: `hvdr status --vm ${primary.vm} --store ${STORE}`,
    isEqual: state === 'PROTECTED',
  });
  const title = `the point of ${primary.vm}'s return`;
  await sites.provePoint(primary.vm, { point: 'latest', title, hashes: [last.hash] }, 'return');
  await cyclesGoOn(sites, primary);
}

/** The next cycle after a return is a delta, and its point is what the guest has. */
async function cyclesGoOn(sites: DemoSites, guest: Guest): Promise<void> {
  await writes(sites, guest, 3, 51);
  const hashes = await sites.guestHashes(guest.vm, 1);
  const { kind, point } = await sites.push(guest.vm);
  sites.report.judge({
    what: `cycles of ${guest.vm} go on as deltas`,
    command: `hvdr points ${guest.vm} --store ${STORE}`,
    isEqual: kind === 'delta',
  });
  const title = `the point of ${guest.vm} after its return`;
  await sites.provePoint(guest.vm, { point, title, hashes }, 'after-return');
}

/** A test from the newest point: the clone has the bytes of the primary, and leaves nothing behind. */
async function drill(sites: DemoSites, guest: Guest): Promise<void> {
  const { report } = sites;
  const wanted = await sites.keepBytes(guest, 'before-test');
  const kept = await sites.failover('test', guest.vm, '--keep', ...sites.operator());
  const clone: Guest = { lab: DR_LAB, vm: kept.instance };
  report.mark('dr', 'a test clone runs');
  sites.judgeSame(
    `a test of ${guest.vm} runs on its bytes`,
    wanted,
    await sites.keepBytes(clone, 'test-clone'),
  );
  await writes(sites, clone, 4, 21);
  await sites.failover('test', guest.vm, '--stop', kept.operation, ...sites.operator());
  report.judge({
    what: `the test of ${guest.vm} left nothing behind`,
    command: `hvdr lab list ${DR_LAB}`,
    isEqual: !(await sites.hasVm(DR_LAB, guest.vm)),
  });
}

/** The primary is lost: an older point, back, the newest point, for good, and home all the same. */
export async function primaryLost(sites: DemoSites): Promise<void> {
  const { report } = sites;
  const primary: Guest = { lab: LAB, vm: LOST };
  const remote: Guest = { lab: DR_LAB, vm: LOST };
  report.say('chapter', `the primary of ${LOST} is lost`);
  const { point } = await firstCopy(sites, primary);
  const early = await sites.keepBytes(primary, 'lost-first');
  await writes(sites, primary, 12, 61);
  await sites.push(LOST);
  const late = await sites.keepBytes(primary, 'lost-second');
  await sites.hvdr('lab', 'stop', LAB, LOST, '--turn-off');
  report.say('accident', 'the primary loses its power');
  report.mark('primary', 'lost');

  await sites.failover('unplanned', LOST, '--point', point, ...sites.operator());
  report.mark('dr', `${LOST} runs, older point`);
  const older = await sites.keepBytes(remote, 'older-at-dr');
  sites.judgeSame(`${LOST} runs on the older point`, early, older);
  await writes(sites, remote, 4, 71);
  await sites.failover('undo', LOST, '--yes', ...sites.operator());
  report.mark('dr', 'taken back');
  await sites.failover('unplanned', LOST, ...sites.operator());
  report.mark('dr', `${LOST} runs, newest point`);
  const newest = await sites.keepBytes(remote, 'newest-at-dr');
  sites.judgeSame(`${LOST} runs on the newest point`, late, newest);
  const { state } = await sites.failover('permanent', LOST, '--yes', ...sites.operator());
  report.mark('dr', `${LOST} stays`);
  report.judge({
    what: `${LOST} stays at the DR site, and its bytes are untouched by that`,
    command: `hvdr lab read ${DR_LAB} ${LOST} --disk 0 | cmp - ${newest.file}`,
    sha256: [newest.hash, (await sites.keepBytes(remote, 'permanent-at-dr')).hash],
    isEqual: state === 'COMMITTED',
  });
  await reprotected(sites, primary, remote);
  await homeFromReprotect(sites, primary, remote);
}

/** The primary came back: what it has is fenced, and the DR site protects its VM towards it. */
async function reprotected(sites: DemoSites, primary: Guest, remote: Guest): Promise<void> {
  const { report } = sites;
  report.mark('primary', 'is back');
  await sites.skippedPush(LOST);
  await notStarted(sites, primary, `the primary that came back does not start its old ${LOST}`);
  await sites.startHomeReceiver();
  await writes(sites, remote, 5, 72);
  const left = await sites.keepBytes(primary, 'left-behind');
  const { bytesSent } = await sites.reprotect(LOST, 'dr');
  report.mark('wire', `◀── reprotect, ${formatSize(bytesSent)} ──`);
  report.say('point', `from the disk that was left at the primary; ${formatSize(bytesSent)} sent`);
  const untouched = await sites.keepBytes(primary, 'left-untouched');
  sites.judgeSame(`the disk that ${LOST} left at the primary was only read`, left, untouched);
}

/** A planned failover in the other direction, and the first one's protection begins again. */
async function homeFromReprotect(sites: DemoSites, primary: Guest, remote: Guest): Promise<void> {
  const { report } = sites;
  await writes(sites, remote, 3, 73);
  await sites.failover('planned', LOST, '--replace-retired', '--yes', ...sites.homeward());
  const last = await sites.keepBytes(remote, 'last-before-home');
  const home = await sites.keepBytes(primary, 'home-again');
  report.mark('wire', '◀── the last changes ──');
  report.mark('primary', `${LOST} runs`);
  sites.judgeSame(`${LOST} is home with all that was written since the accident`, last, home);
  await notStarted(sites, remote, `the DR site does not start ${LOST} meanwhile`);

  await sites.failover('permanent', LOST, '--yes', ...sites.homeward());
  const { vmId, bytesSent } = await sites.reprotect(LOST, 'primary');
  report.mark('wire', `── reprotect, ${formatSize(bytesSent)} ──▶`);
  const title = `the point of ${LOST} with which its protection begins again`;
  // the retired protection at the DR site has the name too
  await sites.provePoint(vmId, { point: 'latest', title, hashes: [home.hash] }, 'circle');
}

async function notStarted(sites: DemoSites, { lab, vm }: Guest, what: string): Promise<void> {
  sites.report.judge({
    what,
    command: `hvdr lab start ${lab} ${vm}`,
    isEqual: (await sites.exitCode('lab', 'start', lab, vm)) === FENCED,
  });
}

/** A VM that runs, with something on its disk, and its first point. */
async function firstCopy(sites: DemoSites, { lab, vm }: Guest): Promise<PushedVm> {
  await sites.hvdr('lab', 'create-vm', lab, vm, '--disk', DISK);
  await sites.hvdr('lab', 'start', lab, vm);
  await writes(sites, { lab, vm }, 60, 11);
  return sites.push(vm);
}

async function writes(
  sites: DemoSites,
  { lab, vm }: Guest,
  count: number,
  seed: number,
): Promise<void> {
  await sites.quiet(
    ...['lab', 'write', lab, vm, '--disk', '0', '--random', String(count)],
    ...['--block', '64K', '--seed', String(seed)],
  );
}
