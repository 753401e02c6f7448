# Hyper-V Replica (operations/replica.ts): one function an operation, one cmdlet each. What is right in which
# state is decided by the caller; what comes back is shaped here.

function Invoke-HvdrReplicaGet {
    param($Arguments)
    $vm = Get-HvdrVm -VmId $Arguments.vmId
    $relations = @()
    # of a VM without a relation both cmdlets below make an error
    if ($vm.ReplicationMode.ToString() -ne 'None') {
        $settings = @(Get-VMReplication -VM $vm)
        foreach ($measured in @(Measure-VMReplication -VM $vm)) {
            $relationship = $measured.ReplicationRelationshipType.ToString()
            $own = @($settings | Where-Object -FilterScript { $_.ReplicationRelationshipType.ToString() -eq $relationship })
            $interval = 0
            if ($own.Count -gt 0) {
                $interval = $own[0].ReplicationFrequencySec
            }
            $lastReplicationAt = $null
            if ($null -ne $measured.LastReplicationTime) {
                $lastReplicationAt = ConvertTo-HvdrTime -Value $measured.LastReplicationTime
            }
            $testVmId = $null
            if ($null -ne $measured.TestVirtualMachine) {
                $testVmId = $measured.TestVirtualMachine.Id.ToString()
            }
            $relations += @{
                'state' = $measured.ReplicationState.ToString()
                'health' = $measured.ReplicationHealth.ToString()
                'mode' = $measured.ReplicationMode.ToString()
                'relationship' = $relationship
                'primaryServer' = $measured.PrimaryServerName
                'replicaServer' = $measured.ReplicaServerName
                'intervalSeconds' = $interval
                'lastReplicationAt' = $lastReplicationAt
                'lastReplicationType' = $measured.LastReplicationType.ToString()
                'pendingBytes' = $measured.PendingReplicationSize.ToString()
                'errors' = $measured.ReplicationErrors
                'missed' = $measured.MissedReplicationCount
                'healthDetails' = @(ConvertTo-HvdrList -Value $measured.ReplicationHealthDetails)
                'testVmId' = $testVmId
            }
        }
    }
    return @{
        'relations' = @($relations)
    }
}

function Invoke-HvdrReplicaPoints {
    param($Arguments)
    $vm = Get-HvdrVm -VmId $Arguments.vmId
    $points = @()
    foreach ($snapshot in @(Get-VMSnapshot -VM $vm)) {
        $type = $snapshot.SnapshotType.ToString()
        if (@('Replica', 'AppConsistentReplica', 'SyncedReplica') -contains $type) {
            $points += @{
                'id' = $snapshot.Id.ToString()
                'name' = $snapshot.Name
                'createdAt' = ConvertTo-HvdrTime -Value $snapshot.CreationTime
                'type' = $type
            }
        }
    }
    return @{
        'points' = @($points)
    }
}

function Invoke-HvdrReplicaEnable {
    param($Arguments)
    $vm = Get-HvdrVm -VmId $Arguments.vmId
    $server = @{
        'ReplicaServerName' = $Arguments.replicaServer
        'ReplicaServerPort' = $Arguments.port
        'AuthenticationType' = $Arguments.authentication
    }
    if ($Arguments.certificateThumbprint -ne '') {
        $server['CertificateThumbprint'] = $Arguments.certificateThumbprint
    }
    Test-VMReplicationConnection @server | Out-Null
    $relation = @{
        'VM' = $vm
        'ReplicationFrequencySec' = $Arguments.intervalSeconds
        'RecoveryHistory' = $Arguments.recoveryPoints
        'CompressionEnabled' = $true
    }
    if ($Arguments.vssHours -gt 0) {
        $relation['VSSSnapshotFrequencyHour'] = $Arguments.vssHours
    }
    if (@($Arguments.excludedDiskPaths).Count -gt 0) {
        $relation['ExcludedVhdPath'] = @($Arguments.excludedDiskPaths)
    }
    Enable-VMReplication @server @relation -Confirm:$false
    return @{
        'done' = 'yes'
    }
}

function Invoke-HvdrReplicaAccept {
    param($Arguments)
    $vm = Get-HvdrVm -VmId $Arguments.vmId
    Enable-VMReplication -VM $vm -AsReplica -Confirm:$false
    return @{
        'done' = 'yes'
    }
}

# One relation of the VM: with an extended replica it has two, and a cmdlet that is given the VM may take either.
function Get-HvdrReplicaRelation {
    param($Vm, $Relationship)
    $found = @(Get-VMReplication -VM $Vm | Where-Object -FilterScript { $_.ReplicationRelationshipType.ToString() -eq $Relationship })
    if ($found.Count -ne 1) {
        throw (New-HvdrMissing -Message "the VM has no single relation that is $Relationship")
    }
    return $found[0]
}

function Invoke-HvdrReplicaStartInitial {
    param($Arguments)
    $vm = Get-HvdrVm -VmId $Arguments.vmId
    $relation = Get-HvdrReplicaRelation -Vm $vm -Relationship $Arguments.relationship
    $way = @{}
    if ($Arguments.folder -ne '') {
        $way['DestinationPath'] = $Arguments.folder
    }
    if ($Arguments.usesBackup) {
        $way['UseBackup'] = $true
    }
    Start-VMInitialReplication -VMReplication $relation @way -Confirm:$false
    return @{
        'done' = 'yes'
    }
}

function Invoke-HvdrReplicaStopInitial {
    param($Arguments)
    $vm = Get-HvdrVm -VmId $Arguments.vmId
    $relation = Get-HvdrReplicaRelation -Vm $vm -Relationship $Arguments.relationship
    Stop-VMInitialReplication -VMReplication $relation -Confirm:$false
    return @{
        'done' = 'yes'
    }
}

function Invoke-HvdrReplicaImportInitial {
    param($Arguments)
    $vm = Get-HvdrVm -VmId $Arguments.vmId
    $relation = Get-HvdrReplicaRelation -Vm $vm -Relationship $Arguments.relationship
    Import-VMInitialReplication -VMReplication $relation -Path $Arguments.folder -Confirm:$false
    return @{
        'done' = 'yes'
    }
}

function Invoke-HvdrReplicaPrepare {
    param($Arguments)
    $vm = Get-HvdrVm -VmId $Arguments.vmId
    Start-VMFailover -VM $vm -Prepare -Confirm:$false
    return @{
        'done' = 'yes'
    }
}

# A point of this VM: an id alone would be taken from any.
function Get-HvdrReplicaPoint {
    param($Vm, $PointId)
    foreach ($snapshot in @(Get-VMSnapshot -VM $Vm)) {
        if ($snapshot.Id -eq [guid]$PointId) {
            return $snapshot
        }
    }
    throw (New-HvdrMissing -Message "the VM has no recovery point $PointId")
}

function Invoke-HvdrReplicaFailover {
    param($Arguments)
    $vm = Get-HvdrVm -VmId $Arguments.vmId
    if ($Arguments.pointId -ne '') {
        $snapshot = Get-HvdrReplicaPoint -Vm $vm -PointId $Arguments.pointId
        Start-VMFailover -VMRecoverySnapshot $snapshot -Confirm:$false
        return @{
            'done' = 'yes'
        }
    }
    Start-VMFailover -VM $vm -Confirm:$false
    return @{
        'done' = 'yes'
    }
}

function Invoke-HvdrReplicaTest {
    param($Arguments)
    $vm = Get-HvdrVm -VmId $Arguments.vmId
    if ($Arguments.pointId -ne '') {
        $snapshot = Get-HvdrReplicaPoint -Vm $vm -PointId $Arguments.pointId
        Start-VMFailover -VMRecoverySnapshot $snapshot -AsTest -Confirm:$false
        return @{
            'done' = 'yes'
        }
    }
    Start-VMFailover -VM $vm -AsTest -Confirm:$false
    return @{
        'done' = 'yes'
    }
}

function Invoke-HvdrReplicaStopFailover {
    param($Arguments)
    $vm = Get-HvdrVm -VmId $Arguments.vmId
    Stop-VMFailover -VM $vm -Confirm:$false
    return @{
        'done' = 'yes'
    }
}

function Invoke-HvdrReplicaComplete {
    param($Arguments)
    $vm = Get-HvdrVm -VmId $Arguments.vmId
    Complete-VMFailover -VM $vm -Confirm:$false
    return @{
        'done' = 'yes'
    }
}

function Invoke-HvdrReplicaReverse {
    param($Arguments)
    $vm = Get-HvdrVm -VmId $Arguments.vmId
    $relation = Get-HvdrReplicaRelation -Vm $vm -Relationship $Arguments.relationship
    Set-VMReplication -VMReplication $relation -Reverse -Confirm:$false
    return @{
        'done' = 'yes'
    }
}

function Invoke-HvdrReplicaSuspend {
    param($Arguments)
    $vm = Get-HvdrVm -VmId $Arguments.vmId
    $relation = Get-HvdrReplicaRelation -Vm $vm -Relationship $Arguments.relationship
    Suspend-VMReplication -VMReplication $relation -Confirm:$false
    return @{
        'done' = 'yes'
    }
}

function Invoke-HvdrReplicaResume {
    param($Arguments)
    $vm = Get-HvdrVm -VmId $Arguments.vmId
    $relation = Get-HvdrReplicaRelation -Vm $vm -Relationship $Arguments.relationship
    $way = @{}
    if ($Arguments.resynchronizes) {
        $way['Resynchronize'] = $true
    }
    Resume-VMReplication -VMReplication $relation @way -Confirm:$false
    return @{
        'done' = 'yes'
    }
}

function Invoke-HvdrReplicaRemove {
    param($Arguments)
    $vm = Get-HvdrVm -VmId $Arguments.vmId
    $relation = Get-HvdrReplicaRelation -Vm $vm -Relationship $Arguments.relationship
    Remove-VMReplication -VMReplication $relation -Confirm:$false
    return @{
        'done' = 'yes'
    }
}
