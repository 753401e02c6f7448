// What a receiver is told by whoever starts it, from text to values: the flags of `hvdr receiver`, and
// the same words in backend.conf. Pure.

import { loopbackAddress } from '../shared/channel/index.js';
import { DrError } from '../shared/errors.js';
import { type GridRule, parseRetentionGrid } from '../shared/params/index.js';
import { parseSize } from '../shared/sizes.js';
import { DEFAULT_SCRUB, type ScrubOptions } from './maintenance/scrub.js';
import { DEFAULT_POLICY, type ReceiverPolicy } from './receiver.js';

/** As it was written; what is missing has its default. */
export interface ReceiverTexts {
  readonly listen: string;
  readonly adminListen?: string | undefined;
  readonly minRestorePoints?: string | undefined;
  readonly retentionGrid?: string | undefined;
  readonly quota?: string | undefined;
  readonly quotaVms?: string | undefined;
  readonly scrubRate?: string | undefined;
  readonly scrubPeriod?: string | undefined;
}

/** How a text is called where it was written. */
export type NameOf = (key: keyof ReceiverTexts) => string;

export interface Address {
  readonly host: string;
  readonly port: number;
}

export interface ReceiverSettings extends Address {
  readonly admin: Address | undefined;
  readonly policy: ReceiverPolicy;
  /** undefined: off. */
  readonly scrub: ScrubOptions | undefined;
}

const DAY_MS = 24 * 60 * 60 * 1000;

/** @throws DrError E_USAGE, E_PARAMETER (an admin address beyond loopback) */
export function receiverSettings(texts: ReceiverTexts, nameOf: NameOf): ReceiverSettings {
  const address = parseAddress(texts.listen, nameOf('listen'));
  const admin =
    texts.adminListen === undefined
      ? undefined
      : parseAddress(texts.adminListen, nameOf('adminListen'));
  if (admin !== undefined) loopbackAddress(admin.host);
  return { ...address, admin, policy: policyOf(texts, nameOf), scrub: scrubOf(texts, nameOf) };
}

function policyOf(texts: ReceiverTexts, nameOf: NameOf): ReceiverPolicy {
  const { minRestorePoints = '1', retentionGrid, quota, quotaVms } = texts;
  const { retention, maxProtections, maxStoredBytes } = DEFAULT_POLICY;
  const minimum = parseCount(minRestorePoints, nameOf('minRestorePoints'), 1000);
  const grid = parseGrid(retentionGrid, nameOf('retentionGrid'));
  return {
    retention: { ...retention, minRestorePoints: minimum, grid },
    maxProtections:
      quotaVms === undefined ? maxProtections : parseCount(quotaVms, nameOf('quotaVms'), 1_000_000),
    maxStoredBytes:
      quota === undefined
        ? maxStoredBytes
        : parseSize(quota, nameOf('quota'), { min: 1, max: Number.MAX_SAFE_INTEGER }),
  };
}

/** `ADDR:PORT`, an IPv6 address in brackets. @throws DrError E_USAGE */
function parseAddress(text: string, what: string): Address {
  const match = /^(?:\[([0-9a-fA-F:.%]+)\]|([^[\]:]+)):(\d{1,5})$/.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (host === undefined) {
    throw new DrError('E_USAGE', `${what} "${text}" is not ADDR:PORT`, {
      hint: 'For example 0.0.0.0:9847, or [::]:9847 for IPv6.',
    });
  }
  if (port > 65_535) {
    throw new DrError('E_USAGE', `${what} "${port}" is not a port`, {
      hint: 'Ports are numbers from 0 to 65535.',
    });
  }
  return { host, port };
}

function parseCount(text: string, what: string, max: number): number {
  const value = Number(text);
  if (/^\d{1,7}$/.test(text) && value >= 1 && value <= max) return value;
  throw new DrError('E_USAGE', `${what} "${text}" is not a number from 1 to ${max}`);
}

function scrubOf(
  { scrubRate, scrubPeriod }: ReceiverTexts,
  nameOf: NameOf,
): ScrubOptions | undefined {
  const { rateBytes, periodMs } = DEFAULT_SCRUB;
  const rate =
    scrubRate === undefined
      ? rateBytes
      : parseSize(scrubRate.replace(/\/s$/, ''), nameOf('scrubRate'), { min: 0, max: 2 ** 40 });
  const days =
    scrubPeriod === undefined
      ? periodMs / DAY_MS
      : parseCount(scrubPeriod, nameOf('scrubPeriod'), 3650);
  return rate === 0 ? undefined : { rateBytes: rate, periodMs: days * DAY_MS };
}

function parseGrid(text: string | undefined, what: string): readonly GridRule[] {
  if (text === undefined) return [];
  const rules = parseRetentionGrid(text);
  if (!('wrong' in rules)) return rules;
  throw new DrError('E_USAGE', `${what} "${text}" ${rules.wrong}`, {
    hint: 'Give parts SPAN/STEP separated by commas, each a number with h, d or w: 24h/1h,7d/1d,4w/1w.',
  });
}
