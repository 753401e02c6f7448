// Gathers what keeps a command from being done, and what people should know of it: all at once, so that
// nobody mends one thing to hear of the next.

import { DrError } from '../../shared/errors.js';
import type { PlanRefusal } from './plan.js';

export class Collector {
  readonly refusals: PlanRefusal[] = [];
  readonly notes: string[] = [];

  /** What `look` throws as a DrError is one more refusal. */
  async ask<T>(look: () => T | Promise<T>): Promise<T | undefined> {
    try {
      return await look();
    } catch (error) {
      if (!(error instanceof DrError)) throw error;
      this.refuse(error);
      return undefined;
    }
  }

  refuse({ code, message }: Pick<DrError, 'code' | 'message'>): void {
    if (!this.refusals.some((known) => known.message === message)) {
      this.refusals.push({ code, message });
    }
  }
}
