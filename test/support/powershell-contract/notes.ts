// What a check comes to: findings, and every name of Windows that it looked up. The test misspells each of them in turn.

import type { Node } from './syntax.js';

/** A name of Windows in a script: each of them is wrong when one of its letters is. */
export interface UsedName {
  readonly text: string;
  readonly start: number;
}

export class Notes {
  readonly findings: string[] = [];
  readonly used: UsedName[] = [];

  /** `name` stands in the text of the node, and is right. */
  demand(isRight: boolean, node: Node, name: string, otherwise: string): void {
    if (!isRight) this.findings.push(`line ${node.startPosition.row + 1}: ${otherwise}`);
    const at = node.text.indexOf(name);
    if (name !== '' && at >= 0) this.used.push({ text: name, start: node.startIndex + at });
  }
}
