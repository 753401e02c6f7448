// The state of the early warning as a part of a journal that was written anew (store/state-record.ts).

import type { Guid } from '../../shared/bytes/index.js';
import { asText, Fields } from '../store/fields.js';
import type { CycleFeatures } from './score.js';

export interface AlarmRecord {
  readonly pointId: Guid;
  readonly atMs: number;
  readonly cleanPointId: Guid | null;
  readonly reasons: readonly string[];
}

export interface WarningRecord {
  readonly score: number;
  readonly cleanPointId: Guid | null;
  readonly alarm: AlarmRecord | null;
  /** The oldest first; at most 32 of each. */
  readonly history: readonly CycleFeatures[];
  readonly setAside: readonly CycleFeatures[];
}

export function parseWarningRecord(fields: Fields): WarningRecord {
  const alarm = fields.has('alarm') ? fields.object('alarm') : undefined;
  return {
    score: fields.number('score'),
    cleanPointId: fields.guidOrNull('cleanPointId'),
    alarm:
      alarm === undefined
        ? null
        : {
            pointId: alarm.guid('pointId'),
            atMs: alarm.number('atMs'),
            cleanPointId: alarm.guidOrNull('cleanPointId'),
            reasons: alarm.list('reasons', asText),
          },
    history: fields.list('history', parseFeatures),
    setAside: fields.list('setAside', parseFeatures),
  };
}

function parseFeatures(value: unknown): CycleFeatures {
  const fields = new Fields(value, 'a cycle');
  return {
    dataCells: fields.number('dataCells'),
    diskCells: fields.number('diskCells'),
    random: fields.number('random'),
    turned: fields.number('turned'),
    fresh: fields.number('fresh'),
    others: fields.number('others'),
    rewritten: fields.number('rewritten'),
  };
}
