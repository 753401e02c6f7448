# The host process of the Hyper-V provider: reads requests from standard input, runs the operation that each names
# out of a fixed table, and writes one answer for each (protocol.ts). No text of a request is ever run. It ends when its
# input ends. To look at it by hand: docs/hyperv-powershell.md.

Set-StrictMode -Version '2.0'
$ErrorActionPreference = 'Stop'
# powershell.exe writes these streams to standard output, which belongs to the protocol
$ProgressPreference = 'SilentlyContinue'
$WarningPreference = 'SilentlyContinue'
$InformationPreference = 'SilentlyContinue'
$VerbosePreference = 'SilentlyContinue'
$DebugPreference = 'SilentlyContinue'
$ConfirmPreference = 'None'

$HvdrVersion = 1

. "$PSScriptRoot\common.ps1"
. "$PSScriptRoot\host-facts.ps1"
. "$PSScriptRoot\jobs.ps1"
. "$PSScriptRoot\hardware.ps1"
. "$PSScriptRoot\machines.ps1"
. "$PSScriptRoot\checkpoints.ps1"
. "$PSScriptRoot\disks.ps1"
. "$PSScriptRoot\network.ps1"
. "$PSScriptRoot\guest.ps1"
. "$PSScriptRoot\cluster.ps1"
. "$PSScriptRoot\replica.ps1"
. "$PSScriptRoot\acceptance.ps1"

$HvdrOperations = @{
    'host.ping' = 'Invoke-HvdrHostPing'
    'host.get' = 'Invoke-HvdrHostGet'
    'job.get' = 'Invoke-HvdrJobGet'
    'job.cancel' = 'Invoke-HvdrJobCancel'
    'machine.list' = 'Invoke-HvdrMachineList'
    'machine.get' = 'Invoke-HvdrMachineGet'
    'machine.status' = 'Invoke-HvdrMachineStatus'
    'machine.start' = 'Invoke-HvdrMachineStart'
    'machine.requestShutdown' = 'Invoke-HvdrMachineRequestShutdown'
    'machine.dropSavedState' = 'Invoke-HvdrMachineDropSavedState'
    'machine.turnOff' = 'Invoke-HvdrMachineTurnOff'
    'machine.create' = 'Invoke-HvdrMachineCreate'
    'machine.removeDvdDrives' = 'Invoke-HvdrMachineRemoveDvdDrives'
    'machine.rename' = 'Invoke-HvdrMachineRename'
    'machine.remove' = 'Invoke-HvdrMachineRemove'
    'machine.setProcessors' = 'Invoke-HvdrMachineSetProcessors'
    'machine.setMemory' = 'Invoke-HvdrMachineSetMemory'
    'machine.setStartAction' = 'Invoke-HvdrMachineSetStartAction'
    'machine.setNotes' = 'Invoke-HvdrMachineSetNotes'
    'machine.setSecureBoot' = 'Invoke-HvdrMachineSetSecureBoot'
    'machine.setFirmwareIds' = 'Invoke-HvdrMachineSetFirmwareIds'
    'machine.enableTpm' = 'Invoke-HvdrMachineEnableTpm'
    'machine.setBootOrder' = 'Invoke-HvdrMachineSetBootOrder'
    'machine.setStartupOrder' = 'Invoke-HvdrMachineSetStartupOrder'
    'machine.setServices' = 'Invoke-HvdrMachineSetServices'
    'machine.addScsiController' = 'Invoke-HvdrMachineAddScsiController'
    'machine.addDisk' = 'Invoke-HvdrMachineAddDisk'
    'machine.setDiskPath' = 'Invoke-HvdrMachineSetDiskPath'
    'checkpoint.create' = 'Invoke-HvdrCheckpointCreate'
    'checkpoint.ofJob' = 'Invoke-HvdrCheckpointOfJob'
    'checkpoint.rename' = 'Invoke-HvdrCheckpointRename'
    'checkpoint.list' = 'Invoke-HvdrCheckpointList'
    'checkpoint.destroy' = 'Invoke-HvdrCheckpointDestroy'
    'checkpoint.convert' = 'Invoke-HvdrCheckpointConvert'
    'referencePoint.ofJob' = 'Invoke-HvdrReferencePointOfJob'
    'referencePoint.list' = 'Invoke-HvdrReferencePointList'
    'referencePoint.destroy' = 'Invoke-HvdrReferencePointDestroy'
    'disk.get' = 'Invoke-HvdrDiskGet'
    'disk.changes' = 'Invoke-HvdrDiskChanges'
    'switch.list' = 'Invoke-HvdrSwitchList'
    'adapter.add' = 'Invoke-HvdrAdapterAdd'
    'adapter.connect' = 'Invoke-HvdrAdapterConnect'
    'adapter.disconnect' = 'Invoke-HvdrAdapterDisconnect'
    'adapter.setVlan' = 'Invoke-HvdrAdapterSetVlan'
    'adapter.setMac' = 'Invoke-HvdrAdapterSetMac'
    'guest.signs' = 'Invoke-HvdrGuestSigns'
    'guest.adapters' = 'Invoke-HvdrGuestAdapters'
    'guest.setAdapter' = 'Invoke-HvdrGuestSetAdapter'
    'cluster.group' = 'Invoke-HvdrClusterGroup'
    'cluster.sharedVolumes' = 'Invoke-HvdrClusterSharedVolumes'
    'cluster.addRole' = 'Invoke-HvdrClusterAddRole'
    'cluster.removeRole' = 'Invoke-HvdrClusterRemoveRole'
    'cluster.start' = 'Invoke-HvdrClusterStart'
    'cluster.stop' = 'Invoke-HvdrClusterStop'
    'cluster.updateRole' = 'Invoke-HvdrClusterUpdateRole'
    'replica.get' = 'Invoke-HvdrReplicaGet'
    'replica.points' = 'Invoke-HvdrReplicaPoints'
    'replica.enable' = 'Invoke-HvdrReplicaEnable'
    'replica.accept' = 'Invoke-HvdrReplicaAccept'
    'replica.startInitial' = 'Invoke-HvdrReplicaStartInitial'
    'replica.stopInitial' = 'Invoke-HvdrReplicaStopInitial'
    'replica.importInitial' = 'Invoke-HvdrReplicaImportInitial'
    'replica.prepare' = 'Invoke-HvdrReplicaPrepare'
    'replica.failover' = 'Invoke-HvdrReplicaFailover'
    'replica.test' = 'Invoke-HvdrReplicaTest'
    'replica.stopFailover' = 'Invoke-HvdrReplicaStopFailover'
    'replica.complete' = 'Invoke-HvdrReplicaComplete'
    'replica.reverse' = 'Invoke-HvdrReplicaReverse'
    'replica.suspend' = 'Invoke-HvdrReplicaSuspend'
    'replica.resume' = 'Invoke-HvdrReplicaResume'
    'replica.remove' = 'Invoke-HvdrReplicaRemove'
    'acceptance.addCheckpoint' = 'Invoke-HvdrAcceptanceAddCheckpoint'
    'acceptance.listCheckpoints' = 'Invoke-HvdrAcceptanceListCheckpoints'
    'acceptance.applyCheckpoint' = 'Invoke-HvdrAcceptanceApplyCheckpoint'
    'acceptance.removeCheckpoint' = 'Invoke-HvdrAcceptanceRemoveCheckpoint'
}

function ConvertTo-HvdrFailure {
    param($Record)
    $message = [string]$Record.Exception.Message
    # what a CIM server says; only this exception has it
    $cimStatus = ''
    if ($Record.Exception.GetType().FullName -eq 'Microsoft.Management.Infrastructure.CimException') {
        $cimStatus = $Record.Exception.NativeErrorCode.ToString()
    }
    $bytes = [System.BitConverter]::GetBytes([int]$Record.Exception.HResult)
    return @{
        'message' = $message.Substring(0, [Math]::Min(8000, $message.Length))
        'category' = $Record.CategoryInfo.Category.ToString()
        'fqid' = [string]$Record.FullyQualifiedErrorId
        'cimStatus' = $cimStatus
        'hresult' = [int64][System.BitConverter]::ToUInt32($bytes, 0)
    }
}

function Get-HvdrAnswer {
    param($Request)
    try {
        $name = [string]$Request.op
        if (-not $HvdrOperations.ContainsKey($name)) {
            throw "there is no operation $name"
        }
        $result = & $HvdrOperations[$name] -Arguments $Request.args
        return @{
            'id' = $Request.id
            'ok' = $true
            'result' = $result
        }
    } catch {
        return @{
            'id' = $Request.id
            'ok' = $false
            'error' = ConvertTo-HvdrFailure -Record $_
        }
    }
}

$HvdrInput = New-Object -TypeName 'System.IO.StreamReader' -ArgumentList @([Console]::OpenStandardInput(), [System.Text.Encoding]::ASCII)
$HvdrOutput = New-Object -TypeName 'System.IO.StreamWriter' -ArgumentList @([Console]::OpenStandardOutput(), [System.Text.Encoding]::ASCII)
$HvdrOutput.AutoFlush = $true

function Write-HvdrMessage {
    param($Message)
    $json = ConvertTo-Json -InputObject $Message -Compress -Depth 10
    $line = [Convert]::ToBase64String([System.Text.Encoding]::UTF8.GetBytes($json))
    $HvdrOutput.Write("$line`n")
}

Write-HvdrMessage -Message @{
    'hello' = 'hvdr-powershell'
    'version' = $HvdrVersion
}

while ($true) {
    $line = $HvdrInput.ReadLine()
    if ($null -eq $line) {
        break
    }
    $json = [System.Text.Encoding]::UTF8.GetString([Convert]::FromBase64String($line))
    $request = ConvertFrom-Json -InputObject $json
    Write-HvdrMessage -Message (Get-HvdrAnswer -Request $request)
}
