// What `hvdr doctor --bacula-config` says about the Plugin lines of a Director's configuration.

import { findPlugins, type FoundPlugin } from '../plugin-bridge/director-config.js';
import { doubtsOfPlugin, isOurs } from '../plugin-bridge/plugin-doubts.js';
import { DrError } from '../shared/errors.js';
import { readConfig } from './agent-options.js';
import type { CliContext } from './context.js';
import { fail, type Finding, ok, warn } from './finding.js';

/** One finding for each doubt, or one that says how many lines are well. */
export async function examineBaculaConfig(file: string, context: CliContext): Promise<Finding[]> {
  let ours: FoundPlugin[];
  try {
    ours = findPlugins(await readConfig(file, context)).filter(isOurs);
  } catch (error) {
    if (!(error instanceof DrError)) throw error;
    return [fail(file, `${error.code}: ${error.message}`, error.hint)];
  }
  const findings = ours.flatMap((plugin, index) => {
    const earlier = ours.slice(0, index).filter(({ block }) => block === plugin.block);
    const check = `${file}:${plugin.line}, FileSet ${plugin.fileSet || 'without a name'}`;
    return doubtsOfPlugin(plugin, earlier).map(({ isFatal, detail, remedy }) =>
      isFatal ? fail(check, detail, remedy) : warn(check, detail, remedy),
    );
  });
  if (ours.length === 0) {
    return [
      warn(
        file,
        'no FileSet in it has a Plugin line of this product',
        'name the file that has them; files named with @ are not followed',
      ),
    ];
  }
  if (findings.length > 0) return findings;
  return [ok(file, `${ours.length} Plugin ${ours.length === 1 ? 'line is' : 'lines are'} well`)];
}
