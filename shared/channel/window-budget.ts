// How much receive window each authenticated connection gets, so that all together stay inside one
// bound: the full window while there is plenty, a quarter of what is left afterwards.

import { AUTHENTICATED, UNAUTHENTICATED } from './limits.js';

export class WindowBudget {
  #granted = 0;

  get grantedBytes(): number {
    return this.#granted;
  }

  grant(): number {
    const left = AUTHENTICATED.windowBytesOfAll - this.#granted;
    const share = Math.min(AUTHENTICATED.windowBytes, Math.floor(left / 4));
    const bytes = Math.max(UNAUTHENTICATED.windowBytes, share);
    this.#granted += bytes;
    return bytes;
  }

  giveBack(bytes: number): void {
    this.#granted -= bytes;
  }
}
