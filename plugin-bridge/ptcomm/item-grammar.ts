// The grammar of what a backup sends (ptcomm.md § 6.1), as a pure table. One `F` too many ends the
// loop in the plugin and truncates the backup without a word; one too few makes the next file part of
// this one. So no packet leaves without a step of this table.
//
//   item ──FNAME──▶ attributes ──STAT──▶ described ──F──▶ content ──DATA──▶ data ──D*, F──▶ item
//     │                                   ▲  │TSTAMP      │                  │
//     │                                   └──┘            └──F (no data)──▶ item
//     │                                                                      └──E (cut short)──▶ item
//     ├──RESTOREOBJ──▶ object-name ──LEN──▶ object ──D*, F──▶ item
//     ├──PLUGINOBJ──▶ plugin-object ──PLUGINOBJ_…*, F──▶ item
//     └──F──▶ ended

import { assert } from '../../shared/assert.js';

export type GrammarState =
  | { readonly at: 'item' }
  | { readonly at: 'attributes' }
  | { readonly at: 'described' }
  | { readonly at: 'content' }
  | { readonly at: 'data' }
  | { readonly at: 'object-name' }
  | { readonly at: 'object'; readonly missingBytes: number }
  | { readonly at: 'plugin-object' }
  | { readonly at: 'ended' };

/** What is about to be sent. */
export type ItemStep =
  | { readonly send: 'command'; readonly word: string }
  | { readonly send: 'length'; readonly bytes: number }
  | { readonly send: 'bytes'; readonly bytes: number }
  | { readonly send: 'F' }
  | { readonly send: 'E' };

export const START: GrammarState = { at: 'item' };

const ITEM: GrammarState = { at: 'item' };

/** The state after `step`; undefined: it must not be sent now. */
export function nextState(state: GrammarState, step: ItemStep): GrammarState | undefined {
  switch (state.at) {
    case 'item':
      return afterItem(step);
    case 'attributes':
      return isWord(step, 'STAT') ? { at: 'described' } : undefined;
    case 'described':
      if (isWord(step, 'TSTAMP')) return state;
      return step.send === 'F' ? { at: 'content' } : undefined;
    case 'content':
      if (isWord(step, 'DATA')) return { at: 'data' };
      return step.send === 'F' ? ITEM : undefined;
    case 'data':
      if (step.send === 'bytes') return step.bytes > 0 ? state : undefined;
      return step.send === 'F' || step.send === 'E' ? ITEM : undefined;
    case 'object-name':
      return step.send === 'length' ? { at: 'object', missingBytes: step.bytes } : undefined;
    case 'object':
      return afterObject(state.missingBytes, step);
    case 'plugin-object':
      if (step.send === 'F') return ITEM;
      return step.send === 'command' && step.word.startsWith('PLUGINOBJ_') ? state : undefined;
    case 'ended':
      return undefined;
  }
}

function afterItem(step: ItemStep): GrammarState | undefined {
  if (step.send === 'F') return { at: 'ended' };
  if (isWord(step, 'FNAME')) return { at: 'attributes' };
  if (isWord(step, 'RESTOREOBJ')) return { at: 'object-name' };
  return isWord(step, 'PLUGINOBJ') ? { at: 'plugin-object' } : undefined;
}

function afterObject(missingBytes: number, step: ItemStep): GrammarState | undefined {
  if (step.send === 'F') return missingBytes === 0 ? ITEM : undefined;
  if (step.send !== 'bytes' || step.bytes === 0 || step.bytes > missingBytes) return undefined;
  return { at: 'object', missingBytes: missingBytes - step.bytes };
}

function isWord(step: ItemStep, word: string): boolean {
  return step.send === 'command' && step.word === word;
}

/** Holds the state; each step is asserted before its packet leaves. */
export class ItemGrammar {
  #state: GrammarState = START;

  get at(): GrammarState['at'] {
    return this.#state.at;
  }

  step(step: ItemStep): void {
    const next = nextState(this.#state, step);
    assert(next !== undefined, `the grammar of a backup allows ${step.send} at ${this.#state.at}`);
    this.#state = next;
  }
}
