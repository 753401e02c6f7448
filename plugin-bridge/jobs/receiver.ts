// `mode=receiver`: a DR receiver as long as the job runs. backend.conf alone says which folder it may
// write in, which port it may open, and whose keys it takes; the Plugin line chooses among what stands there.

import {
  addressText,
  receiverSettings,
  type ReceiverTexts,
  standReceiver,
} from '../../dr-receiver/index.js';
import { receiverReport } from '../../shared/catalog/index.js';
import { DrError } from '../../shared/errors.js';
import { openHypervisor } from '../../shared/hypervisor/index.js';
import type { ParameterValues } from '../../shared/params/index.js';
import type { FileSink } from '../../source-agent/index.js';
import type { JobPorts } from '../backend.js';
import type { JobInfo } from '../job-info.js';
import { sendText } from './job-file.js';
import { surroundingsOf } from './surroundings.js';
import { closingAfter, warnOfNoEnd } from './time-limit.js';

/** Ends when the job is cancelled or `run_for` is over, with a report of when and where it served. @throws DrError as standReceiver(); E_PARAMETER */
export async function runReceiver(
  job: JobInfo,
  values: ParameterValues,
  sink: FileSink,
  ports: JobPorts,
): Promise<void> {
  const { conf, clock, programVersion } = ports;
  const { stores, addresses, texts, places } = conf.receiver;
  const store = chosen('store', values.store, stores);
  const listen = chosen('listen', values.listen, addresses);
  if (places.keys.length === 0) {
    throw new DrError('E_PARAMETER', 'backend.conf names no keys that a receiver would take', {
      context: { parameter: 'receiver_keys' },
      hint: 'Let it list `receiver_keys`: the keys of those who may send to this receiver.',
    });
  }
  const settings = receiverSettings({ ...texts, listen }, nameOf);
  warnOfNoEnd('mode=receiver', values.run_for, sink);
  const limit = closingAfter(values.run_for, clock);
  const startedAtMs = clock.now();
  let listening = '';
  try {
    await standReceiver(settings, { ...places, store }, surroundingsOf(ports), {
      signal: AbortSignal.any([sink.signal, limit.closing]),
      programVersion,
      // the receiver closes its own
      openHost: () => openHypervisor(conf.host, { ...ports, fs: ports.files }),
      onListening: (served) => {
        listening = addressText(served);
        sink.say('info', `listening ${listening}, store ${store}`);
      },
    });
  } finally {
    limit.end();
  }
  // nobody takes it any more
  if (sink.signal.aborted) return;
  sink.say('info', 'the receiver has ended at a safe point');
  const [startedAt, endedAt] = [startedAtMs, clock.now()].map((ms) => new Date(ms).toISOString());
  const report = {
    format: 1,
    seq: startedAtMs,
    job: job.name,
    store,
    listening,
    startedAt,
    endedAt,
  };
  const text = `${JSON.stringify(report)}\n`;
  await sendText(sink, receiverReport(startedAtMs), text, startedAtMs);
}

function nameOf(key: keyof ReceiverTexts): string {
  if (key === 'listen') return 'listen';
  return `receiver_${key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)}`;
}

/** What the line names, or the first that the file lists. @throws DrError E_PARAMETER */
function chosen(
  name: 'store' | 'listen',
  wanted: string | undefined,
  listed: readonly string[],
): string {
  const found = wanted === undefined ? listed[0] : listed.find((each) => each === wanted);
  if (found !== undefined) return found;
  const why =
    wanted === undefined
      ? 'nothing says what a receiver may use on this host'
      : 'it is none that a receiver may use on this host';
  throw new DrError('E_PARAMETER', `${name}, Plugin string: ${why}`, {
    context: { parameter: name },
    hint: `backend.conf lists \`${name}\`.`,
  });
}
