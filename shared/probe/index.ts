// What tells from outside whether something works: a TCP port, a script of the operator. Drills ask at
// the DR site, plans where the orchestrator runs.

export { connectTcp, type ConnectTcp, parseTcpAddress, type TcpAddress } from './tcp.js';
export { findScript, isScriptName } from './find-script.js';
export {
  MESSAGE_CHARACTERS_MAX,
  runScript,
  type RunScript,
  type ScriptContext,
  type ScriptEnd,
  type ScriptRun,
} from './run-script.js';
