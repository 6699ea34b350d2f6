//! Prints the ClusterRole that the gateway needs, as its own code has it.

fn main() {
    print!("{}", meshward_mesh_gateway::rights::cluster_role());
}
