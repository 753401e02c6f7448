// Tells which parts of the code a fuzz case reached that no case reached before, from the coverage
// that V8 keeps by itself; so the fuzzers need no native tool. While it is on, code runs slower.

import { Session } from 'node:inspector/promises';

export class CoverageFeedback {
  readonly #session = new Session();
  readonly #isCovered: (url: string) => boolean;
  readonly #known = new Set<string>();

  private constructor(isCovered: (url: string) => boolean) {
    this.#isCovered = isCovered;
  }

  /** Starts to watch the scripts that `isCovered` picks by their URL. */
  static async start(isCovered: (url: string) => boolean): Promise<CoverageFeedback> {
    const feedback = new CoverageFeedback(isCovered);
    feedback.#session.connect();
    await feedback.#session.post('Profiler.enable');
    await feedback.#session.post('Profiler.startPreciseCoverage', {
      callCount: true,
      detailed: true,
    });
    return feedback;
  }

  /**
   * How many blocks ran since the last call that never ran before, or never as often: counts are
   * taken by powers of two, so that a loop that runs longer is news, too.
   */
  async news(): Promise<number> {
    const { result } = await this.#session.post('Profiler.takePreciseCoverage');
    let count = 0;
    for (const { url, functions } of result) {
      if (!this.#isCovered(url)) continue;
      for (const { ranges } of functions) {
        for (const { startOffset, endOffset, count: runs } of ranges) {
          if (runs === 0) continue;
          const key = `${url}:${startOffset}:${endOffset}:${Math.floor(Math.log2(runs))}`;
          if (this.#known.has(key)) continue;
          this.#known.add(key);
          count++;
        }
      }
    }
    return count;
  }

  /** Blocks seen so far, by how often they ran. */
  get knownCount(): number {
    return this.#known.size;
  }

  async stop(): Promise<void> {
    await this.#session.post('Profiler.stopPreciseCoverage');
    this.#session.disconnect();
  }
}
