// What the declarations of operations say: the arguments by their types, the answers by reading one.

import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import ts from 'typescript';
import type { Fields } from '../../../shared/hypervisor/fields.js';

const SOURCES = fileURLToPath(
  new URL('../../../../shared/hypervisor/hyperv/operations', import.meta.url),
);
const COMPILED = fileURLToPath(
  new URL('../../../shared/hypervisor/hyperv/operations', import.meta.url),
);

export interface Declared {
  readonly name: string;
  readonly args: readonly string[];
  /** Fields that reading an answer asks for. */
  readonly answer: readonly string[];
}

interface Exported {
  readonly name: string;
  readonly read: (fields: Fields) => unknown;
}

export async function declaredOperations(): Promise<Declared[]> {
  const files = readdirSync(SOURCES).filter((name) => name.endsWith('.ts'));
  const program = ts.createProgram(
    files.map((name) => join(SOURCES, name)),
    { module: ts.ModuleKind.Node20, target: ts.ScriptTarget.ES2023, strict: true, noEmit: true },
  );
  const checker = program.getTypeChecker();
  const found: Declared[] = [];
  for (const file of files) {
    const source = program.getSourceFile(join(SOURCES, file));
    const symbol = source === undefined ? undefined : checker.getSymbolAtLocation(source);
    if (symbol === undefined) continue;
    const compiled = (await import(
      pathToFileURL(join(COMPILED, file.replace(/\.ts$/, '.js'))).href
    )) as Record<string, unknown>;
    for (const exported of checker.getExportsOfModule(symbol)) {
      const type = checker.getTypeOfSymbol(exported);
      if (!checker.typeToString(type).startsWith('Operation<')) continue;
      const [args] = checker.getTypeArguments(type as ts.TypeReference);
      const operation = compiled[exported.name] as Exported;
      found.push({
        name: operation.name,
        args: args === undefined ? [] : checker.getPropertiesOfType(args).map(({ name }) => name),
        answer: fieldsRead(operation.read),
      });
    }
  }
  return found;
}

/** Reads an answer that has everything, and notes what was asked for. */
function fieldsRead(read: (fields: Fields) => unknown): string[] {
  const names = new Set<string>();
  const fields: unknown = new Proxy(
    {},
    {
      get:
        (_target, kind) =>
        (name: string, second?: unknown): unknown => {
          names.add(name);
          switch (kind) {
            case 'list':
              return [(second as (fields: unknown) => unknown)(fields)];
            case 'object':
            case 'optionalObject':
              return (second as (fields: unknown) => unknown)(fields);
            case 'oneOf':
              return (second as unknown[])[0];
            case 'counter':
              return 0n;
            case 'whole':
            case 'optionalWhole':
              return 0;
            default:
              return '';
          }
        },
    },
  );
  read(fields as Fields);
  return [...names];
}
