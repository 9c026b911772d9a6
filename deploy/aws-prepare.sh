#!/usr/bin/env bash
# Makes what cluster.yaml wants beforehand: a security group that lets in nothing but its own members
# and ssh from this machine's address, and the id of a plain Ubuntu image with NVIDIA's driver.
# Prints both ids. May be repeated: what is there is found again.
set -euo pipefail

region=${1:?usage: deploy/aws-prepare.sh REGION, as in us-west-2}
name=pinsage-ray
image=/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id

aws() { command aws --region "$region" --output text "$@"; }

here=$(curl -fsS https://checkip.amazonaws.com)
network=$(aws ec2 describe-vpcs --filters Name=is-default,Values=true --query 'Vpcs[0].VpcId')
group=$(aws ec2 describe-security-groups --query 'SecurityGroups[0].GroupId' \
    --filters "Name=group-name,Values=$name" "Name=vpc-id,Values=$network")
if [ "$group" = None ]; then
    group=$(aws ec2 create-security-group --group-name "$name" --vpc-id "$network" \
        --description "Ray for PinSage: members, and ssh from one address" --query GroupId)
    aws ec2 authorize-security-group-ingress --group-id "$group" \
        --protocol -1 --source-group "$group" >/dev/null
fi
aws ec2 authorize-security-group-ingress --group-id "$group" \
    --protocol tcp --port 22 --cidr "$here/32" >/dev/null 2>&1 ||
    echo "ssh from $here was allowed already, or may not be allowed; see the group's rules" >&2

echo "SecurityGroupIds: [$group]"
echo "ImageId: $(aws ssm get-parameter --name "$image" --query Parameter.Value)"
