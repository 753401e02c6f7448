// A session on the receiver's side: who it is, which calls it has, how it ends. It is bound to the
// connection on which its handshake ran, and exists in earnest only after its first record opened.

import type { Clock } from '../clock.js';
import type { DrError } from '../errors.js';
import type { Suite } from './aead.js';
import { CallWindow } from './call-window.js';
import { SESSION_AGE_MAX_MS } from './limits.js';
import type { NoiseSecrets } from './noise.js';
import type { PreSharedKey } from './psk-format.js';
import type { Caller } from './service.js';

/** What a session can do with a call of its own. */
export interface RunningCall {
  end(reason: DrError): void;
}

export interface SessionFacts {
  readonly id: Buffer;
  readonly secrets: NoiseSecrets;
  readonly suite: Suite;
  readonly version: number;
  readonly key: PreSharedKey;
  readonly caller: Caller;
}

export class ReceiverSession {
  readonly facts: SessionFacts;
  readonly window = new CallWindow();
  readonly #clock: Clock;
  readonly #startedAtMs: number;
  readonly #calls = new Set<RunningCall>();
  readonly #onIdle: () => void;
  #isConfirmed = false;
  #ended: DrError | undefined;

  /** `onIdle` is called when the last of its calls ended. */
  constructor(facts: SessionFacts, clock: Clock, onIdle: () => void) {
    this.facts = facts;
    this.#clock = clock;
    this.#startedAtMs = clock.monotonic();
    this.#onIdle = onIdle;
  }

  /** A record of the peer has opened with the session's keys. */
  get isConfirmed(): boolean {
    return this.#isConfirmed;
  }

  confirm(): void {
    this.#isConfirmed = true;
  }

  get ended(): DrError | undefined {
    return this.#ended;
  }

  get callCount(): number {
    return this.#calls.size;
  }

  /** Too old for new calls; those under way go on. */
  get isExpired(): boolean {
    return this.#clock.monotonic() - this.#startedAtMs >= SESSION_AGE_MAX_MS;
  }

  started(call: RunningCall): void {
    this.#calls.add(call);
  }

  finished(call: RunningCall): void {
    if (this.#calls.delete(call) && this.#calls.size === 0) this.#onIdle();
  }

  /** Ends all calls; nothing of the session is of use any more. */
  end(reason: DrError): void {
    if (this.#ended !== undefined) return;
    this.#ended = reason;
    for (const call of [...this.#calls]) call.end(reason);
    this.facts.secrets.chainingKey.fill(0);
  }
}
