// Forgets the points that only their age kept: retention is decided anew without a commit.

import type { Guid } from '../../shared/bytes/index.js';
import type { Clock } from '../../shared/clock.js';
import { pointsToForget } from '../store/forget.js';
import type { RetentionPolicy } from '../store/retention.js';
import type { VmStore } from '../store/vm-store.js';

/** Returns the points that are forgotten, durably. @throws DrError E_IO, E_CAPACITY, E_HALTED */
export function forgetByAge(
  vm: VmStore,
  policy: RetentionPolicy,
  clock: Clock,
): Promise<readonly Guid[]> {
  const decide = (): Guid[] =>
    pointsToForget(vm.protection, { policy, nowMs: clock.now(), isClockTrusted: true });
  if (decide().length === 0) return Promise.resolve([]);
  return vm.change(async () => {
    const pointIds = decide();
    if (pointIds.length === 0) return pointIds;
    await vm.append({ kind: 'delist', atMs: clock.now(), pointIds, by: 'retention' });
    return pointIds;
  });
}
