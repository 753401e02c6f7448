// A command that a service manager runs: systemd hears on its socket that it is ready, that it lives and that it ends
// (sd_notify(3)), and a service host of Windows tells it to end by closing its input, as there are no signals there.

import type { Command } from 'commander';
import { openNotifySocket, type SendNotice } from '../shared/files/index.js';
import type { CliContext } from './context.js';

export interface ServiceFlags {
  readonly stopOnStdinClose?: true;
}

export function addServiceOptions(command: Command): Command {
  return command.option(
    '--stop-on-stdin-close',
    'end as on SIGTERM when standard input is closed, for service hosts without signals',
  );
}

/** What a running service tells its manager; where there is none, nobody hears it. */
export interface ServiceVoice {
  readonly signal: AbortSignal;
  /** It serves from now on, with a line for `systemctl status`. */
  ready(status: string): void;
  status(text: string): void;
}

/** Runs `work` as a service: with a signal that ends it, and a voice. Everything is told and quiet when it settles. */
export async function runAsService(
  context: CliContext,
  flags: ServiceFlags,
  work: (voice: ServiceVoice) => Promise<void>,
): Promise<void> {
  const signal = context.stopSignal({ onInputEnd: flags.stopOnStdinClose === true });
  const tell = await openVoice(context);
  const ended = new AbortController();
  const onStop = (): void => {
    tell('STOPPING=1\nSTATUS=ending at a safe point');
  };
  signal.addEventListener('abort', onStop, { once: true });
  const watchdog = feedWatchdog(context, tell, ended.signal);
  try {
    await work({
      signal,
      ready: (status) => {
        tell(`READY=1\nSTATUS=${oneLine(status)}`);
      },
      status: (text) => {
        tell(`STATUS=${oneLine(text)}`);
      },
    });
  } finally {
    signal.removeEventListener('abort', onStop);
    ended.abort();
    await watchdog;
  }
}

/** A message has a line for each variable. */
function oneLine(text: string): string {
  return text.replace(/\s*\n\s*/g, '; ');
}

async function openVoice({ environment, output }: CliContext): Promise<(text: string) => void> {
  const address = environment['NOTIFY_SOCKET'];
  if (address === undefined || address === '') return () => undefined;
  const send: SendNotice | undefined = await openNotifySocket(address);
  if (send === undefined) {
    output.note(`the service manager cannot be told: NOTIFY_SOCKET=${address} is no such socket`);
    return () => undefined;
  }
  return (text) => {
    const failure = send(text);
    if (failure === undefined) return;
    output.note(`the service manager cannot be told: ${address}: ${failure}`);
  };
}

/** Tells twice in each period of systemd's watchdog that the event loop turns. */
async function feedWatchdog(
  { environment, clock }: CliContext,
  tell: (text: string) => void,
  ended: AbortSignal,
): Promise<void> {
  const periodMs = Number(environment['WATCHDOG_USEC']) / 1000;
  if (!(periodMs > 0)) return;
  const forProcess = environment['WATCHDOG_PID'];
  if (forProcess !== undefined && forProcess !== String(process.pid)) return;
  while (!ended.aborted) {
    tell('WATCHDOG=1');
    // rejects when the work has ended
    await clock.sleep(periodMs / 2, ended).catch(() => undefined);
  }
}
