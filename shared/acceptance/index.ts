// The acceptance of a real host (`hvdr doctor --deep`, docs/windows-acceptance.md): every fact about Hyper-V that
// this product relies on and that was only inferred, and probes that confirm or refute them.
//
//   facts            the table of facts, with who can answer each
//   port             what is needed besides the interfaces of a hypervisor; lab-port: at the lab
//   bench            VMs of a probe, its answers, what is read and compared
//   probes/          one file a subject
//   run report       all probes, tidying up, what comes of it
//
// Invariants: only VMs with the tag of the acceptance are touched; they and their folder are gone afterwards, or are
// named; a fact is confirmed by what was seen in this run, never by a probe that did not come to it.

export {
  FOLDER_NAME,
  NAME_PREFIX,
  type AcceptanceSeams,
  type GuestWish,
  type Host,
} from './bench.js';
export { FACT_IDS, FACTS, type Fact, type FactId, factOf } from './facts.js';
export { labPort } from './lab-port.js';
export type { AcceptancePort, InspectedDisk } from './port.js';
export { acceptanceDocument, acceptanceText, isAccepted, type About } from './report.js';
export { acceptHost, PROBES, type Acceptance, type Probe, type ProbeRun } from './run.js';
