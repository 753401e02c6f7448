// How the parts of a command and of a hash table stand in the tree.

import { childOf, childrenOf, inner, type Node, nodesOf } from './syntax.js';

export function entriesOf(hash: Node): { key: Node; value: Node | undefined }[] {
  const body = nodesOf(hash, 'hash_literal_body')[0];
  return (body === undefined ? [] : childrenOf(body)).flatMap((entry) => {
    const key = childOf(entry, 'key_expression');
    return key === undefined ? [] : [{ key: inner(key), value: childrenOf(entry)[1] }];
  });
}

export function numberOf(value: Node): number | undefined {
  const digits = /^(?:\[(?:byte|uint16|int|uint32)\])?(\d+)$/.exec(value.text)?.[1];
  return digits === undefined ? undefined : Number(digits);
}

export function valueOf(named: ReadonlyMap<Node, Node>, parameter: string): Node | undefined {
  for (const [node, value] of named) if (node.text === `-${parameter}`) return value;
  return undefined;
}

export function parametersOf(elements: Node | undefined): {
  named: Map<Node, Node>;
  switches: Node[];
  splatted: Node[];
} {
  const named = new Map<Node, Node>();
  const switches: Node[] = [];
  const splatted: Node[] = [];
  let open: Node | undefined;
  for (const child of elements === undefined ? [] : childrenOf(elements)) {
    if (child.type === 'command_argument_sep') continue;
    if (child.type === 'command_parameter') {
      if (open !== undefined) switches.push(open);
      open = child;
    } else if (child.text.startsWith('@') && inner(child).type === 'variable') {
      splatted.push(inner(child));
    } else if (open !== undefined) {
      named.set(open, child);
      open = undefined;
    }
  }
  if (open !== undefined) switches.push(open);
  return { named, switches, splatted };
}
