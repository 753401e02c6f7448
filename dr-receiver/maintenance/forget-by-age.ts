// Forgets the points that only their age kept: retention is decided anew without a commit.

import type { Guid } from '../../shared/bytes/index.js';
import type { Clock } from '../../shared/clock.js';
import { decideRetention, type RetentionPolicy } from '../store/retention.js';
import type { VmStore } from '../store/vm-store.js';

/** A newest point that lies so far in the future shows that the clock went back. */
const CLOCK_BACK_MS = 60 * 60 * 1000;

/** Returns the points that are forgotten, durably. @throws DrError E_IO, E_CAPACITY, E_HALTED */
export function forgetByAge(
  vm: VmStore,
  policy: RetentionPolicy,
  clock: Clock,
): Promise<readonly Guid[]> {
  const decide = (): Guid[] => {
    const { listed, head, maxRestorePoints } = vm.protection;
    const nowMs = clock.now();
    if (head === undefined || nowMs < head.committedAtMs - CLOCK_BACK_MS) return [];
    const verdicts = decideRetention({
      points: listed.map((point) => ({
        pointId: point.pointId,
        committedAtMs: point.committedAtMs,
        isPinned: point.pinReason !== undefined,
        verifiedAtMs: point.verifiedAtMs,
        isDamaged: point.damage !== undefined,
      })),
      requestedPoints: maxRestorePoints,
      policy,
      nowMs,
      isClockTrusted: true,
    });
    return verdicts.filter(({ isKept }) => !isKept).map(({ pointId }) => pointId);
  };
  if (decide().length === 0) return Promise.resolve([]);
  return vm.change(async () => {
    const pointIds = decide();
    if (pointIds.length === 0) return pointIds;
    await vm.append({ kind: 'delist', atMs: clock.now(), pointIds, by: 'retention' });
    return pointIds;
  });
}
