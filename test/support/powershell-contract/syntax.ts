// The parse tree of a PowerShell script, by tree-sitter. PowerShell itself does not run on Linux.

import { createRequire } from 'node:module';
import { Language, type Node, Parser } from 'web-tree-sitter';

const require = createRequire(import.meta.url);

let loaded: Promise<Parser> | undefined;

async function load(): Promise<Parser> {
  await Parser.init();
  const wasm = require.resolve('tree-sitter-powershell/tree-sitter-powershell.wasm');
  const parser = new Parser();
  parser.setLanguage(await Language.load(wasm));
  return parser;
}

export type { Node };

export type Parse = (text: string) => Node;

export async function powerShellParser(): Promise<Parse> {
  loaded ??= load();
  const parser = await loaded;
  return (text) => {
    const tree = parser.parse(text);
    if (tree === null) throw new Error('the parser gave up');
    return tree.rootNode;
  };
}

export const childrenOf = (node: Node): Node[] => node.namedChildren;

/** Every node below and with `node` that has the type, in the order of the text. */
export function nodesOf(node: Node, type: string): Node[] {
  return node.descendantsOfType(type);
}

export function childOf(node: Node, type: string): Node | undefined {
  return childrenOf(node).find((child) => child.type === type);
}

/** What an expression is, without the levels of the grammar that only pass it on. */
export function inner(node: Node): Node {
  let at = node;
  for (;;) {
    const children = childrenOf(at);
    const [only] = children;
    if (only === undefined || children.length > 1 || KEPT.has(at.type) || only.text !== at.text)
      return at;
    at = only;
  }
}

const KEPT = new Set(['command', 'variable', 'string_literal', 'member_access', 'element_access']);

/** The text of a literal without variables in it. */
export function literalOf(node: Node): string | undefined {
  const text = inner(node).text;
  return /^'[^']*'$/.test(text) || /^"[^"$`]*"$/.test(text) ? text.slice(1, -1) : undefined;
}

/** Where the parser did not understand the script. */
export function syntaxErrors(root: Node): string[] {
  const found: string[] = [];
  const walk = (node: Node): void => {
    if (node.isError || node.isMissing) {
      found.push(`line ${node.startPosition.row + 1}: cannot be parsed: ${node.text.slice(0, 60)}`);
      return;
    }
    for (const child of node.children) walk(child);
  };
  if (root.hasError) walk(root);
  return found;
}
