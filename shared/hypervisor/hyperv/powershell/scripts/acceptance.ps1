# Checkpoints as a user makes them (operations/acceptance.ts), on VMs of the acceptance only.

# Of that VM only: another one's is never touched.
function Get-HvdrAcceptanceCheckpoint {
    param($VmId, $CheckpointId)
    $vm = Get-HvdrVm -VmId $VmId
    $id = ([guid]$CheckpointId).ToString()
    foreach ($snapshot in @(Get-VMSnapshot -VM $vm)) {
        if ($snapshot.Id.ToString() -eq $id) {
            return $snapshot
        }
    }
    throw (New-HvdrMissing -Message "the VM has no checkpoint $id")
}

function Invoke-HvdrAcceptanceAddCheckpoint {
    param($Arguments)
    $vm = Get-HvdrVm -VmId $Arguments.vmId
    $snapshot = Checkpoint-VM -VM $vm -SnapshotName 'hvdr acceptance' -Passthru -Confirm:$false
    return @{
        'checkpointId' = $snapshot.Id.ToString()
    }
}

function Invoke-HvdrAcceptanceListCheckpoints {
    param($Arguments)
    $vm = Get-HvdrVm -VmId $Arguments.vmId
    $ids = @()
    foreach ($snapshot in @(Get-VMSnapshot -VM $vm -SnapshotType 'Standard')) {
        $ids += $snapshot.Id.ToString()
    }
    return @{
        'checkpointIds' = @($ids)
    }
}

function Invoke-HvdrAcceptanceApplyCheckpoint {
    param($Arguments)
    $snapshot = Get-HvdrAcceptanceCheckpoint -VmId $Arguments.vmId -CheckpointId $Arguments.checkpointId
    Restore-VMSnapshot -VMSnapshot $snapshot -Confirm:$false
    return @{
        'done' = 'yes'
    }
}

function Invoke-HvdrAcceptanceRemoveCheckpoint {
    param($Arguments)
    $snapshot = Get-HvdrAcceptanceCheckpoint -VmId $Arguments.vmId -CheckpointId $Arguments.checkpointId
    Remove-VMSnapshot -VMSnapshot $snapshot -Confirm:$false
    return @{
        'done' = 'yes'
    }
}
